//! What both faces read from a request besides its body: credentials and query parameters.

use actix_web::{HttpRequest, http::header::AUTHORIZATION};
use percent_encoding::percent_decode_str;

use crate::domain::{
    expiry::parse_whole_number,
    invalid::{FieldError, Invalid},
};

/// The token of `Authorization: Bearer …`.
pub fn bearer(request: &HttpRequest) -> Option<String> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next()?.to_str().ok()?;
    // Two headers could be read differently by whoever stands in front.
    if headers.next().is_some() {
        return None;
    }
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// A request's query, decoded as forms are.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn of(request: &HttpRequest) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = request.query_string().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// A whole number within bounds.
    pub fn number(&self, name: &str, default: i64, min: i64, max: i64) -> Result<i64, FieldError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = parse_whole_number(text).map_err(|problem| FieldError::new(name, problem))?;
        if number < min || number > max {
            return Err(FieldError::new(name, Invalid::Rule("lie within the documented limits")));
        }
        Ok(number)
    }
}
