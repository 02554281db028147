//! Request bodies: read within bounds, taken apart field by field. Every value that is wrong is named by its path,
//! such as `events[7].name`; a field given twice is refused, because two readers might pick different ones.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    time::Duration,
};

use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    clock::SharedClock,
    domain::{
        expiry::{parse_millis, parse_whole_number},
        invalid::{FieldError, Invalid},
        time::Timestamp,
    },
};

/// How long a client may take to send its body.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How much of an unknown field's name is told back.
const NAME_SHOWN_MAX: usize = 128;

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {max} bytes")]
    TooLarge { max: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body could not be read")]
    Broken,
    #[error("the body is empty")]
    Empty,
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("the body is not a JSON object")]
    NotObject,
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Reads the whole body, at most `max` bytes.
pub async fn read(mut payload: Payload, max: usize, clock: &SharedClock) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    let mut late = clock.sleep(READ_WITHIN);
    loop {
        let chunk = tokio::select! {
            chunk = payload.next() => chunk,
            () = &mut late => return Err(BodyError::TooSlow),
        };
        match chunk {
            None => return Ok(body.freeze()),
            Some(Err(_)) => return Err(BodyError::Broken),
            Some(Ok(chunk)) if body.len() + chunk.len() > max => return Err(BodyError::TooLarge { max }),
            Some(Ok(chunk)) => body.extend_from_slice(&chunk),
        }
    }
}

/// A JSON object whose values are still text. Each `take_…` removes one field; what is left over was not known.
#[derive(Debug)]
pub struct Object<'b> {
    path: String,
    fields: Vec<(String, &'b RawValue)>,
}

#[derive(Default)]
struct Fields<'b> {
    fields: Vec<(String, &'b RawValue)>,
    /// A name that stands there more than once.
    twice: Option<String>,
}

impl<'de: 'b, 'b> Deserialize<'de> for Fields<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = Fields::default();
                // A set, because a body may hold some hundred thousand names.
                let mut seen = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if !seen.insert(name.clone()) {
                        read.twice.get_or_insert(name);
                        continue;
                    }
                    read.fields.push((name, value));
                }
                Ok(read)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'b> Object<'b> {
    /// Reads a body that must be one object.
    pub fn parse(body: &'b [u8]) -> Result<Self, BodyError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(BodyError::Empty);
        }
        let text: &RawValue =
            serde_json::from_slice(body).map_err(|error| BodyError::NotJson(error.to_string()))?;
        if !text.get().starts_with('{') {
            return Err(BodyError::NotObject);
        }
        let fields: Fields<'b> =
            serde_json::from_str(text.get()).map_err(|error| BodyError::NotJson(error.to_string()))?;
        Ok(Self::of(fields, String::new())?)
    }

    /// The field's whole path, for errors.
    pub fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    pub fn error(&self, name: &str, problem: Invalid) -> FieldError {
        FieldError::new(self.path_of(name), problem)
    }

    /// The value's text; `null` counts as absent.
    pub fn take(&mut self, name: &str) -> Option<&'b RawValue> {
        let at = self.fields.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.fields.swap_remove(at);
        (value.get() != "null").then_some(value)
    }

    /// Whether the field is there, even as `null`.
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    pub fn take_string(&mut self, name: &str) -> Result<Option<String>, FieldError> {
        self.take_typed(name, "a string")
    }

    pub fn take_required_string(&mut self, name: &str) -> Result<String, FieldError> {
        self.take_string(name)?.ok_or_else(|| self.error(name, Invalid::Missing))
    }

    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>, FieldError> {
        self.take_typed(name, "true or false")
    }

    /// A whole number, as a number or as its text.
    pub fn take_whole_number(&mut self, name: &str) -> Result<Option<i64>, FieldError> {
        self.take_number(name, parse_whole_number)
    }

    pub fn take_required_whole_number(&mut self, name: &str) -> Result<i64, FieldError> {
        self.take_whole_number(name)?.ok_or_else(|| self.error(name, Invalid::Missing))
    }

    /// A moment in RFC 3339.
    pub fn take_time(&mut self, name: &str) -> Result<Option<Timestamp>, FieldError> {
        let Some(text) = self.take_string(name)? else { return Ok(None) };
        Timestamp::parse_rfc3339(&text).map(Some).ok_or_else(|| self.error(name, Invalid::NO_TIME))
    }

    /// A moment in Unix milliseconds, as a number or as its text.
    pub fn take_millis(&mut self, name: &str) -> Result<Option<i64>, FieldError> {
        self.take_number(name, parse_millis)
    }

    fn take_number(
        &mut self,
        name: &str,
        parse: fn(&str) -> Result<i64, Invalid>,
    ) -> Result<Option<i64>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = value.get();
        let number = match serde_json::from_str::<String>(text) {
            Ok(quoted) => parse(&quoted),
            Err(_) => parse(text),
        };
        number.map(Some).map_err(|problem| self.error(name, problem))
    }

    /// One of a fixed set of words.
    pub fn take_word<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Option<T>,
        expected: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(word) = self.take_string(name)? else { return Ok(None) };
        parse(&word).map(Some).ok_or_else(|| self.error(name, Invalid::Type(expected)))
    }

    pub fn take_strings(&mut self, name: &str) -> Result<Option<Vec<String>>, FieldError> {
        let Some(items) = self.take_list(name)? else { return Ok(None) };
        let read = |(at, item): (usize, &RawValue)| {
            serde_json::from_str(item.get())
                .map_err(|_| self.error(&format!("{name}[{at}]"), Invalid::Type("a string")))
        };
        items.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    pub fn take_list(&mut self, name: &str) -> Result<Option<Vec<&'b RawValue>>, FieldError> {
        self.take_typed(name, "a list")
    }

    /// An object of strings.
    pub fn take_string_map(&mut self, name: &str) -> Result<Option<BTreeMap<String, String>>, FieldError> {
        let Some(object) = self.take_object(name)? else { return Ok(None) };
        let mut map = BTreeMap::new();
        for (key, value) in &object.fields {
            let text: String = serde_json::from_str(value.get())
                .map_err(|_| object.error(key, Invalid::Type("a string")))?;
            map.insert(key.clone(), text);
        }
        Ok(Some(map))
    }

    pub fn take_object(&mut self, name: &str) -> Result<Option<Object<'b>>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Self::nested(value, &self.path_of(name)).map(Some)
    }

    /// An object somewhere inside the body, at `path`.
    pub fn nested(value: &'b RawValue, path: &str) -> Result<Self, FieldError> {
        let fields: Fields<'b> = serde_json::from_str(value.get())
            .map_err(|_| FieldError::new(path, Invalid::Type("an object")))?;
        Self::of(fields, format!("{path}."))
    }

    fn of(read: Fields<'b>, path: String) -> Result<Self, FieldError> {
        let object = Self { path, fields: read.fields };
        match read.twice {
            Some(name) => Err(object.error(shown(&name), Invalid::Rule("be given once"))),
            None => Ok(object),
        }
    }

    /// Refuses fields that nobody took: a misspelt option must not be dropped in silence.
    pub fn finish(self) -> Result<(), FieldError> {
        match self.fields.first() {
            Some((name, _)) => {
                Err(self.error(shown(name), Invalid::Rule("not be given: there is no such field")))
            }
            None => Ok(()),
        }
    }

    fn take_typed<T: Deserialize<'b>>(
        &mut self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|_| self.error(name, Invalid::Type(expected)))
    }
}

/// A name of the client's own making, cut to a sane length.
fn shown(name: &str) -> &str {
    name.char_indices().nth(NAME_SHOWN_MAX).map_or(name, |(end, _)| name.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_wrong_by_its_path() {
        let mut body =
            Object::parse(br#"{"a": 1, "b": {"c": true}, "l": ["x", 2], "n": null, "w": "blue"}"#).unwrap();
        assert_eq!(body.take_string("n"), Ok(None));
        assert_eq!(body.take_string("a").unwrap_err().to_string(), "a must be a string");
        assert_eq!(body.take_required_string("zz").unwrap_err().to_string(), "zz is required");
        assert_eq!(body.take_strings("l").unwrap_err().field, "l[1]");
        assert_eq!(body.take_object("b").unwrap().unwrap().take_string("c").unwrap_err().field, "b.c");
        assert!(body.take_word("w", |word| (word == "red").then_some(()), "red").is_err());
        body.finish().unwrap();
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        let twice = |body: &'static [u8]| match Object::parse(body) {
            Err(BodyError::Field(error)) => error.field,
            other => panic!("{other:?}"),
        };
        assert_eq!(twice(br#"{"a": 1, "a": 2}"#), "a");
        assert_eq!(twice(br#"{"a": 1, "\u0061": 2}"#), "a");
        let mut nested = Object::parse(br#"{"a": {"b": 1, "b": 1}}"#).unwrap();
        assert_eq!(nested.take_object("a").unwrap_err().field, "a.b");
        assert!(matches!(Object::parse(b"[1]"), Err(BodyError::NotObject)));
        assert!(matches!(Object::parse(br#"{"a": 1"#), Err(BodyError::NotJson(_))));
        assert!(matches!(Object::parse(b"{\"a\": \"\xff\"}"), Err(BodyError::NotJson(_))));
        assert!(matches!(Object::parse(b"{} {}"), Err(BodyError::NotJson(_))));
        let body = Object::parse(br#"{"adress": "x"}"#).unwrap();
        assert_eq!(body.finish().unwrap_err().field, "adress");
    }

    #[test]
    fn numbers_may_be_quoted() {
        let mut body = Object::parse(br#"{"a": "3600", "b": 1767225600123.0, "c": 1.5, "d": true}"#).unwrap();
        assert_eq!(body.take_whole_number("a"), Ok(Some(3_600)));
        assert_eq!(body.take_whole_number("b"), Ok(Some(1_767_225_600_123)));
        assert!(body.take_whole_number("c").is_err() && body.take_whole_number("d").is_err());
    }
}
