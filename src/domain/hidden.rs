//! What reads do not show: secrets, and the query strings of addresses. In its place stands a mark, and whoever sends the
//! mark back means what stands behind it.

use std::fmt;

/// What stands where something is hidden.
pub const MARK: &str = "(set)";

/// A secret on its way in. Its `Debug` tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether it is the mark, read somewhere and sent back.
    pub fn is_mark(&self) -> bool {
        self.0 == MARK
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// An address as it is shown: the names in its query stay, the values do not. What has no name is a value.
pub fn mask_query(address: &str) -> String {
    let Some((place, query)) = address.split_once('?') else { return address.to_owned() };
    let mask = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}={MARK}"),
        None if pair.is_empty() => String::new(),
        None => MARK.to_owned(),
    };
    format!("{place}?{}", query.split('&').map(mask).collect::<Vec<_>>().join("&"))
}

/// Whether something of the address's query is hidden.
pub fn is_masked(address: &str) -> bool {
    let query = address.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split_once('=').map_or(pair, |(_, value)| value) == MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_values_go() {
        for (address, shown) in [
            ("https://a.example/hook", "https://a.example/hook"),
            ("https://a.example/?", "https://a.example/?"),
            ("https://a.example/?token=s3cret&v=2", "https://a.example/?token=(set)&v=(set)"),
            ("https://a.example/?s3cret", "https://a.example/?(set)"),
            ("https://a.example/?a=b=c&&=d?e", "https://a.example/?a=(set)&&=(set)"),
        ] {
            assert_eq!(mask_query(address), shown);
            assert_eq!(mask_query(shown), shown, "the same however often");
            assert_eq!(is_masked(shown), shown != address, "{shown}");
            assert!(!is_masked(address), "{address}");
        }
        assert!(!format!("{:?}", Hidden::new("s3cret".to_owned())).contains("s3cret"));
    }
}
