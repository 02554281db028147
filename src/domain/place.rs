//! Opaque places that answers give and requests bring back: in a list, and in a resource's log. They grant nothing and
//! are not signed: whoever makes one up sees no more than whoever pages.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

/// The place behind `key` in a list.
pub fn page_token(key: i64) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("p{key}"))
}

pub fn read_page_token(token: &str) -> Option<i64> {
    decoded(token)?.strip_prefix('p')?.parse().ok()
}

/// The place behind `seq` in the log of a resource, which it names so that another resource's is noticed.
pub fn sync_token(resource_id: &str, seq: i64) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("1:{resource_id}:{seq}"))
}

pub fn read_sync_token(token: &str, resource_id: &str) -> Option<i64> {
    let text = decoded(token)?;
    let seq = text.strip_prefix("1:")?.strip_prefix(resource_id)?.strip_prefix(':')?;
    seq.parse().ok().filter(|seq| *seq >= 0)
}

fn decoded(token: &str) -> Option<String> {
    String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_another_resources_is_not() {
        assert_eq!(read_page_token(&page_token(-7)), Some(-7));
        assert_eq!(read_sync_token(&sync_token("r", 7), "r"), Some(7));
        assert_eq!(read_sync_token(&sync_token("r", 7), "s"), None);
        assert_eq!(read_sync_token(&sync_token("r", -7), "r"), None);
        assert_eq!(read_page_token(&sync_token("r", 7)), None);
    }
}
