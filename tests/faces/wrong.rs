//! Tables of wrong values: which field holds what, and what the answer must call it.

use std::fmt::Write as _;

/// What no header, no id and no name may contain, as JSON writes it.
pub const CONTROLS: [&str; 4] = [r#""a\nb""#, r#""a\rb""#, r#""a\u0000b""#, r#""a\u007fb""#];

/// A body that is an object, with its values as JSON text, so that it can also be wrong.
#[derive(Clone, Debug)]
pub struct Body(Vec<(String, String)>);

impl Body {
    pub fn of(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut fields = self.without(name).0;
        fields.push((name.to_owned(), value.to_owned()));
        Self(fields)
    }

    pub fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(known, _)| known != name).cloned().collect())
    }

    pub fn twice(&self, name: &str, value: &str) -> Self {
        let mut fields = self.with(name, value).0;
        fields.push((name.to_owned(), value.to_owned()));
        Self(fields)
    }

    pub fn text(&self) -> String {
        let mut text = "{".to_owned();
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(text, "{comma}\"{name}\":{value}").unwrap();
        }
        text + "}"
    }
}

/// One wrong value of one field. The code is `/v1`'s `code` or Google's `reason`.
#[derive(Clone, Debug)]
pub struct Wrong {
    pub field: &'static str,
    pub value: String,
    /// The path that the answer names.
    pub named: String,
    pub code: &'static str,
}

/// Collects the wrong values of a request.
#[derive(Debug, Default)]
pub struct Table(pub Vec<Wrong>);

impl Table {
    pub fn wrong(&mut self, field: &'static str, code: &'static str, values: &[&str]) -> &mut Self {
        self.inside(field, field, code, values)
    }

    /// The answer names something inside the field.
    pub fn inside(
        &mut self,
        field: &'static str,
        named: &str,
        code: &'static str,
        values: &[&str],
    ) -> &mut Self {
        for value in values {
            self.0.push(Wrong { field, value: (*value).to_owned(), named: named.to_owned(), code });
        }
        self
    }

    /// A text: every other type and a deep nest, control characters, and one longer than `max`.
    pub fn text(
        &mut self,
        field: &'static str,
        of_type: &'static str,
        of_control: &'static str,
        too_long: (usize, &'static str),
    ) -> &mut Self {
        self.wrong(field, of_type, &["1", "true", "[]", "{}", "[\"a\"]", &deep(1_000), r#""\ud800""#]);
        self.wrong(field, of_control, &CONTROLS);
        self.wrong(field, too_long.1, &[&long(too_long.0 + 1)])
    }
}

/// A JSON string of so many letters.
pub fn long(letters: usize) -> String {
    format!("\"{}\"", "a".repeat(letters))
}

/// A list in a list in a list.
pub fn deep(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

/// Bodies that are no object at all.
pub fn no_objects() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "{",
        "}",
        "[]",
        "null",
        "1",
        "\"x\"",
        "{} {}",
        "{\"id\":\"a\",}",
        "{'id':'a'}",
        "{\"id\":NaN}",
        "{\"id\":\"a\nb\"}",
        "{\"\\ud800\":1}",
        "\u{feff}{}",
        "id=a&type=web_hook",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    bodies.push(b"{\"id\":\"\xff\"}".to_vec());
    bodies.push(b"{\"id\":\"a\0b\"}".to_vec());
    bodies.push(deep(20_000).into_bytes());
    bodies.push("{\"a\":".repeat(10_000).into_bytes());
    bodies
}
