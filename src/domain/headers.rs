//! Extra request headers that a channel's owner may set. Checked on write and again on send, because a row may
//! be older than a rule.

use std::collections::BTreeMap;

use super::invalid::{Invalid, header_safe};

pub const HEADERS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 1_024;
const TOTAL_BYTES_MAX: usize = 8 * 1_024;

/// What the transport, the signature or the formats own.
const RESERVED: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
];
const RESERVED_PREFIXES: &[&str] = &["proxy-", "x-forwarded-", "webhook-", "x-goog-", "watchpost-", "ce-"];

/// Checks all headers of one channel; `own_prefix` is the server's `WATCHPOST_HEADER_PREFIX`.
pub fn check(headers: &BTreeMap<String, String>, own_prefix: &str) -> Result<(), Invalid> {
    if headers.len() > HEADERS_MAX {
        return Err(Invalid::TooMany { max: HEADERS_MAX });
    }
    let mut total = 0;
    let mut seen = std::collections::BTreeSet::new();
    for (name, value) in headers {
        check_one(name, value, own_prefix)?;
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(Invalid::Rule("name each header once, whatever its case"));
        }
        total += name.len() + value.len();
    }
    if total > TOTAL_BYTES_MAX {
        return Err(Invalid::TooLong { max: TOTAL_BYTES_MAX, unit: "bytes in total" });
    }
    Ok(())
}

fn check_one(name: &str, value: &str, own_prefix: &str) -> Result<(), Invalid> {
    check_name(name, own_prefix)?;
    header_safe(value, VALUE_BYTES_MAX)
}

/// Checks the name of a header that an owner sets.
pub fn check_name(name: &str, own_prefix: &str) -> Result<(), Invalid> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(Invalid::Rule("have names of letters, digits and -"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Invalid::TooLong { max: NAME_BYTES_MAX, unit: "characters in a name" });
    }
    let lower = name.to_ascii_lowercase();
    let own = own_prefix.to_ascii_lowercase();
    let reserved = RESERVED.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        || (!own.is_empty() && lower.starts_with(&own));
    if reserved {
        return Err(Invalid::Rule("not set a header that the transport or the format owns"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<(), Invalid> {
        check(&BTreeMap::from([(name.to_owned(), value.to_owned())]), "Hooks-")
    }

    #[test]
    fn accepts_ordinary_headers() {
        assert_eq!(one("Authorization", "Bearer a b"), Ok(()));
        assert_eq!(one("X-Tenant", ""), Ok(()));
    }

    #[test]
    fn refuses_injection_and_reserved_names() {
        for value in ["a\r\nX: y", "a\nb", "a\rX", "a\0b", "é", "a\u{2028}b", "a\r\n b"] {
            assert!(one("X-A", value).is_err(), "{value:?}");
        }
        for name in [
            "",
            "X:Y",
            " X",
            "Transfer-Encoding",
            "tRaNsFeR-eNcOdInG",
            "Webhook-Id",
            "hooks-x",
            "X-Goog-Channel-ID",
            "Host",
        ] {
            assert!(one(name, "y").is_err(), "{name:?}");
        }
        let many = (0..=HEADERS_MAX).map(|at| (format!("X-{at}"), String::new())).collect();
        assert!(check(&many, "").is_err());
        let twice = BTreeMap::from([("X-A".into(), String::new()), ("x-a".into(), String::new())]);
        assert!(check(&twice, "").is_err());
    }
}
