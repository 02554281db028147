//! What can be wrong with a value, without saying where it stood: the face that read it adds the field's name.

/// The display text continues a sentence that begins with the field's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("is required")]
    Missing,
    #[error("must be {0}")]
    Type(&'static str),
    #[error("is longer than {max} {unit}")]
    TooLong { max: usize, unit: &'static str },
    #[error("has more than {max} entries")]
    TooMany { max: usize },
    #[error("must not contain control or non-ASCII characters")]
    NotHeaderSafe,
    #[error("must {0}")]
    Rule(&'static str),
}

impl Invalid {
    /// A text that is no moment in RFC 3339.
    pub const NO_TIME: Self = Self::Type("a time such as 2026-12-24T18:00:00Z");
}

/// Visible ASCII and single spaces: what a header value can carry without changing.
pub fn header_safe(text: &str, max: usize) -> Result<(), Invalid> {
    if text.len() > max {
        return Err(Invalid::TooLong { max, unit: "characters" });
    }
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(Invalid::NotHeaderSafe);
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(Invalid::Rule("not begin or end with a space"));
    }
    Ok(())
}

/// A wrong value and where it stood: `events[7].name`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct FieldError {
    pub field: String,
    pub problem: Invalid,
}

impl FieldError {
    pub fn new(field: impl Into<String>, problem: Invalid) -> Self {
        Self { field: field.into(), problem }
    }
}

/// Adds the field's name to what is wrong with its value.
pub trait InField<T> {
    fn in_field(self, field: &str) -> Result<T, FieldError>;
}

impl<T> InField<T> for Result<T, Invalid> {
    fn in_field(self, field: &str) -> Result<T, FieldError> {
        self.map_err(|problem| FieldError::new(field, problem))
    }
}
