//! What a token of somebody else's issuer must say, and how it is read. The signature is `signing`'s business; here
//! its claims are held against the operator's rules.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::time::Timestamp;

/// The longest life of an external token: whoever loses their access must not keep it for long.
pub const EXTERNAL_LIFETIME_MAX: Duration = Duration::from_hours(24);
/// Clocks may differ by this much.
const LEEWAY_SECONDS: i64 = 30;
/// Entries of `resources`: each is held against every resource that the bearer names.
const PATTERNS_MAX: usize = 64;
const SCOPE_WORDS_MAX: usize = 256;

/// The operator's word on the tokens of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRules {
    /// What `iss` must be, to the letter.
    pub issuer: String,
    /// What must stand in `aud`, alone or among others.
    pub audience: String,
    pub project: ProjectOf,
    pub subject_claim: String,
    pub scope_claim: String,
    pub scopes: ScopeMap,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProjectOf {
    Claim(String),
    /// All tokens are of this project, whatever they say.
    Fixed(String),
}

/// Which of our scopes an issuer's words grant; empty where they are the same words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeMap(BTreeMap<String, Vec<String>>);

impl ScopeMap {
    /// `WORD=SCOPE` or `WORD=SCOPE+SCOPE`, separated by commas. A word may hold `=` and `:`, as URLs do.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        for entry in text.split(',').map(str::trim) {
            if entry.chars().any(char::is_control) {
                return Err("holds control characters".to_owned());
            }
            let Some((word, scopes)) = entry.rsplit_once('=').filter(|(word, _)| !word.is_empty()) else {
                return Err(format!("`{entry}` is not WORD=SCOPE"));
            };
            let scopes: Vec<String> = scopes.split('+').map(str::to_owned).collect();
            if let Some(unknown) = scopes.iter().find(|scope| !known.contains(&scope.as_str())) {
                return Err(format!("there is no scope `{unknown}`; known are {}", known.join(", ")));
            }
            if map.insert(word.to_owned(), scopes).is_some() {
                return Err(format!("`{word}` stands there twice"));
            }
        }
        Ok(Self(map))
    }

    fn granted(&self, words: Vec<String>) -> Vec<String> {
        if self.0.is_empty() {
            return words;
        }
        words.iter().filter_map(|word| self.0.get(word)).flatten().cloned().collect()
    }
}

/// The bearer of an external token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub project: String,
    pub subject: String,
    pub scopes: Vec<String>,
    pub resources: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    #[error("the claim {0} is missing or of another type")]
    Malformed(&'static str),
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is meant for somebody else")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token lives too long")]
    TooLong,
}

impl IssuerRules {
    /// Reads the claims of a token whose signature is good.
    pub fn read(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Bearer, ClaimsError> {
        if text(claims, "iss") != Some(&self.issuer) {
            return Err(ClaimsError::Issuer);
        }
        let is_meant = match claims.get("aud") {
            Some(Value::String(audience)) => *audience == self.audience,
            Some(Value::Array(audiences)) => audiences.iter().any(|audience| *audience == self.audience),
            _ => false,
        };
        if !is_meant {
            return Err(ClaimsError::Audience);
        }
        check_times(claims, now)?;
        let project = match &self.project {
            ProjectOf::Fixed(project) => project.clone(),
            ProjectOf::Claim(name) => {
                text(claims, name).ok_or(ClaimsError::Malformed("of the project"))?.to_owned()
            }
        };
        let subject = text(claims, &self.subject_claim).ok_or(ClaimsError::Malformed("of the subject"))?;
        Ok(Bearer {
            project,
            subject: subject.to_owned(),
            scopes: self.scopes.granted(words(claims.get(&self.scope_claim))?),
            resources: patterns(claims.get("resources"))?,
        })
    }
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name).and_then(Value::as_str)
}

/// Whole seconds; anything else is refused, never taken for absent.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, ClaimsError> {
    let read = |value: &Value| value.as_i64().ok_or(ClaimsError::Malformed(name));
    claims.get(name).map(read).transpose()
}

fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<(), ClaimsError> {
    let now = now.as_seconds();
    let expires = seconds(claims, "exp")?.ok_or(ClaimsError::Malformed("exp"))?;
    let (issued, not_before) = (seconds(claims, "iat")?, seconds(claims, "nbf")?);
    if expires.saturating_add(LEEWAY_SECONDS) <= now {
        return Err(ClaimsError::Expired);
    }
    if [issued, not_before].into_iter().flatten().any(|from| from > now.saturating_add(LEEWAY_SECONDS)) {
        return Err(ClaimsError::NotYet);
    }
    let lifetime = expires.saturating_sub(issued.unwrap_or(now));
    if u64::try_from(lifetime).is_ok_and(|lifetime| lifetime > EXTERNAL_LIFETIME_MAX.as_secs()) {
        return Err(ClaimsError::TooLong);
    }
    Ok(())
}

/// Separated by spaces, as RFC 8693 has it, or a list. No scope at all is no scope.
fn words(value: Option<&Value>) -> Result<Vec<String>, ClaimsError> {
    let words: Option<Vec<String>> = match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::String(text)) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
        Some(Value::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    words.filter(|words| words.len() <= SCOPE_WORDS_MAX).ok_or(ClaimsError::Malformed("of the scopes"))
}

fn patterns(value: Option<&Value>) -> Result<Option<Vec<String>>, ClaimsError> {
    let malformed = ClaimsError::Malformed("resources");
    let Some(value) = value else { return Ok(None) };
    let items = value.as_array().filter(|items| items.len() <= PATTERNS_MAX).ok_or(malformed)?;
    let read: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    read.map(Some).ok_or(malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const SCOPES: [&str; 2] = ["channels", "events"];

    fn rules() -> IssuerRules {
        IssuerRules {
            issuer: "https://id.example.com".to_owned(),
            audience: "watchpost".to_owned(),
            project: ProjectOf::Claim("project".to_owned()),
            subject_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
            scopes: ScopeMap::default(),
        }
    }

    fn read(rules: &IssuerRules, change: &Value) -> Result<Bearer, ClaimsError> {
        let mut claims = json!({ "iss": "https://id.example.com", "aud": "watchpost", "project": "p", "sub": "s",
                                 "scope": "channels x", "iat": 1_700_000_000, "exp": 1_700_003_600 });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut claims = claims.as_object().unwrap().clone();
        claims.retain(|_, value| *value != json!("absent"));
        rules.read(&claims, NOW)
    }

    #[test]
    fn a_bearer_is_read_by_the_operators_rules() {
        let plain = read(&rules(), &json!({})).unwrap();
        assert_eq!((plain.project.as_str(), plain.subject.as_str()), ("p", "s"));
        assert_eq!((plain.scopes, plain.resources), (vec!["channels".to_owned(), "x".to_owned()], None));
        assert!(read(&rules(), &json!({ "aud": ["else", "watchpost"] })).is_ok());

        let mapped = IssuerRules {
            project: ProjectOf::Fixed("shop".to_owned()),
            subject_claim: "email".to_owned(),
            scope_claim: "scp".to_owned(),
            scopes: ScopeMap::parse("https://x/a?b=c=channels, api:write=channels+events", &SCOPES).unwrap(),
            ..rules()
        };
        let change = json!({ "email": "liz@x", "scp": ["api:write", "channels"], "project": 7,
                             "resources": ["a/{subject}/**"] });
        let read = read(&mapped, &change).unwrap();
        assert_eq!((read.project.as_str(), read.subject.as_str()), ("shop", "liz@x"));
        assert_eq!(read.scopes, ["channels", "events"], "a word that is not mapped grants nothing");
        assert_eq!(read.resources, Some(vec!["a/{subject}/**".to_owned()]));
    }

    #[test]
    fn what_a_token_must_say_it_must_say_exactly() {
        use ClaimsError::{Audience, Expired, Issuer, Malformed, NotYet, TooLong};
        for (change, error) in [
            (json!({ "iss": "absent" }), Issuer),
            (json!({ "iss": "https://id.example.com/" }), Issuer),
            (json!({ "iss": "https://ID.example.com" }), Issuer),
            (json!({ "aud": "absent" }), Audience),
            (json!({ "aud": [] }), Audience),
            (json!({ "aud": "Watchpost" }), Audience),
            (json!({ "aud": ["else", 7] }), Audience),
            (json!({ "exp": "absent" }), Malformed("exp")),
            (json!({ "exp": "1700003600" }), Malformed("exp")),
            (json!({ "exp": 1_700_003_600.5 }), Malformed("exp")),
            (json!({ "exp": 1e308 }), Malformed("exp")),
            (json!({ "exp": 1_700_003_600_000_i64 }), TooLong),
            (json!({ "exp": 1_699_999_970 }), Expired),
            (json!({ "iat": "absent", "exp": 1_700_086_401 }), TooLong),
            (json!({ "iat": 1_699_900_000 }), TooLong),
            (json!({ "iat": 1_700_000_031 }), NotYet),
            (json!({ "nbf": 1_700_000_031 }), NotYet),
            (json!({ "nbf": "1" }), Malformed("nbf")),
            (json!({ "project": "absent" }), Malformed("of the project")),
            (json!({ "sub": 7 }), Malformed("of the subject")),
            (json!({ "scope": 7 }), Malformed("of the scopes")),
            (json!({ "resources": "a/**" }), Malformed("resources")),
            (json!({ "resources": null }), Malformed("resources")),
            (json!({ "resources": vec!["a"; 65] }), Malformed("resources")),
        ] {
            assert_eq!(read(&rules(), &change), Err(error), "{change}");
        }
        for fine in [
            json!({ "exp": 1_699_999_971 }),
            json!({ "nbf": 1_700_000_030 }),
            json!({ "scope": "absent" }),
            json!({ "resources": [] }),
        ] {
            assert!(read(&rules(), &fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn a_map_of_scopes_is_checked() {
        for (text, told) in [
            ("channels", "is not WORD=SCOPE"),
            ("=channels", "is not WORD=SCOPE"),
            ("a=channels,", "is not WORD=SCOPE"),
            ("a=operator", "no scope `operator`"),
            ("a=channels,a=events", "twice"),
        ] {
            assert!(ScopeMap::parse(text, &SCOPES).unwrap_err().contains(told), "{text}");
        }
    }
}
