//! Values that no log line, error or debug output may show.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

/// A secret text. [`Secret::reveal`] is the only way to it.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The key that wraps secrets at rest and derives claim URLs.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    #[error("not base64 in the standard alphabet")]
    NotBase64,
    #[error("{0} bytes, where 32 are needed")]
    Length(usize),
}

impl MasterKey {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn from_base64(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| MasterKeyError::NotBase64)?;
        bytes.try_into().map(Self).map_err(|bytes: Vec<u8>| MasterKeyError::Length(bytes.len()))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What [`MasterKey::from_base64`] reads: for the file beside an embedded database.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_key_is_32_bytes_of_base64() {
        let text = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let key = MasterKey::from_base64(text).unwrap();
        assert_eq!(key.as_bytes(), &[1; 32]);
        assert_eq!(key.to_base64(), text);
        for (text, error) in [
            ("AQEB", MasterKeyError::Length(3)),
            ("", MasterKeyError::Length(0)),
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB", MasterKeyError::Length(33)),
            ("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE", MasterKeyError::NotBase64),
            ("-_-_", MasterKeyError::NotBase64),
            ("not base64", MasterKeyError::NotBase64),
        ] {
            assert_eq!(MasterKey::from_base64(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn debug_shows_neither() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
        assert_eq!(format!("{:?}", MasterKey::from_bytes([7; 32])), "MasterKey(…)");
    }
}
