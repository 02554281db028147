//! Whether a receiver is asked before the first notification goes to it, and how its answer is read. Decided per
//! project by the operator; the engine asks.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::Deserialize;

/// The word in the ledger for an attempt that was held back because the receiver has not agreed.
pub const NO_CONSENT: &str = "no_consent";
const PROJECTS_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    None,
    /// Nothing is sent to an address before its receiver has agreed.
    Challenge,
}

impl Verify {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "none" => Some(Self::None),
            "challenge" => Some(Self::Challenge),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Challenge => "challenge",
        }
    }
}

/// For all projects, and for some of them otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    default: Verify,
    projects: BTreeMap<String, Verify>,
}

impl Verification {
    pub fn of(&self, project: &str) -> Verify {
        self.projects.get(project).copied().unwrap_or(self.default)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not none or challenge, nor PROJECT=none or PROJECT=challenge behind it, each project once")]
pub struct VerificationError(String);

impl FromStr for Verification {
    type Err = VerificationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut entries = text.split(',').map(str::trim);
        let wrong = |entry: &str| VerificationError(entry.to_owned());
        let first = entries.next().unwrap_or_default();
        let default = Verify::parse(first).ok_or_else(|| wrong(first))?;
        let mut projects = BTreeMap::new();
        for entry in entries {
            let (project, word) = entry.split_once('=').ok_or_else(|| wrong(entry))?;
            let verify = Verify::parse(word).filter(|_| !project.is_empty()).ok_or_else(|| wrong(entry))?;
            if projects.len() == PROJECTS_MAX || projects.insert(project.to_owned(), verify).is_some() {
                return Err(wrong(entry));
            }
        }
        Ok(Self { default, projects })
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.default.as_str())?;
        self.projects.iter().try_for_each(|(project, verify)| write!(f, ",{project}={}", verify.as_str()))
    }
}

/// Whether the answer to CloudEvents' question allows `origin` to send.
pub fn is_allowed(origin: &str, status: u16, allowed_origin: Option<&str>) -> bool {
    let allowed = allowed_origin.map(str::trim);
    (200..300).contains(&status) && allowed.is_some_and(|it| it == "*" || it.eq_ignore_ascii_case(origin))
}

/// Whether the answer to a challenge is that challenge and nothing else, as plain text or as `{"challenge":"…"}`. A 2xx
/// is no consent, since many servers say it to everything, nor is a body that holds the challenge among other things:
/// so does that of a server that sends back whatever it gets.
pub fn is_repeated(nonce: &str, status: u16, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Repeated<'b> {
        challenge: &'b str,
    }
    let as_json = || serde_json::from_slice(body).is_ok_and(|Repeated { challenge }| challenge == nonce);
    (200..300).contains(&status) && (body.trim_ascii() == nonce.as_bytes() || as_json())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_its_own_word_or_that_of_all() {
        let verification: Verification = "none, acme=challenge,shop=none".parse().unwrap();
        let of = |project| verification.of(project);
        assert_eq!([of("acme"), of("shop"), of("other")], [Verify::Challenge, Verify::None, Verify::None]);
        assert_eq!(verification.to_string().parse(), Ok(verification));
        assert_eq!("challenge".parse::<Verification>().unwrap().of("any"), Verify::Challenge);
        for wrong in
            ["", "yes", "acme=challenge", "none,acme", "none,=none", "none,a=b", "none,a=none,a=none"]
        {
            assert!(wrong.parse::<Verification>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_an_answer_that_knows_the_question_is_consent() {
        assert!(is_allowed("hooks.shop.com", 200, Some("Hooks.shop.com")));
        assert!(is_allowed("hooks.shop.com", 204, Some("*")));
        assert!(!is_allowed("hooks.shop.com", 200, Some("shop.com")) && !is_allowed("a", 200, None));
        assert!(!is_allowed("hooks.shop.com", 405, Some("*")));
    }

    #[test]
    fn whoever_sends_back_what_it_gets_has_not_agreed() {
        for answer in ["abc", " abc\r\n", r#"{"challenge":"abc"}"#, "\n{ \"challenge\" :\t\"abc\" }\n"] {
            assert!(is_repeated("abc", 200, answer.as_bytes()), "{answer}");
            assert!(!is_repeated("abc", 404, answer.as_bytes()), "{answer}");
        }
        for answer in [
            "",
            "ab",
            "abcd",
            "got abc",
            r#"{"challenge":"ab"}"#,
            r#"{"challenge":["abc"]}"#,
            r#"{"challenge":"abc","challenge":"abc"}"#,
            r#"{"type":"watchpost.channel.challenge","challenge":"abc"}"#,
            r#"{"json":{"challenge":"abc"}}"#,
            r#"{"challenge":"abc"} {"challenge":"abc"}"#,
        ] {
            assert!(!is_repeated("abc", 200, answer.as_bytes()), "{answer}");
        }
    }
}
