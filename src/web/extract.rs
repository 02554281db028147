//! What both faces read from a request besides its body: credentials and query parameters.

use std::borrow::Cow;

use actix_web::{HttpRequest, http::header::AUTHORIZATION};
use percent_encoding::percent_decode_str;

use crate::{
    app::AccessError,
    domain::{
        expiry::parse_whole_number,
        invalid::{FieldError, Invalid},
        time::Timestamp,
    },
};

/// The token of `Authorization: Bearer …`.
pub fn bearer(request: &HttpRequest) -> Result<Option<String>, AccessError> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let Some(header) = headers.next() else { return Ok(None) };
    // Two headers could be read differently by whoever stands in front.
    if headers.next().is_some() {
        return Err(AccessError::Invalid);
    }
    let header = header.to_str().map_err(|_| AccessError::Invalid)?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned()))
}

/// Parameters of one request at most.
const PARAMETERS_MAX: usize = 64;
/// How much of an unknown parameter's name is told back.
const NAME_SHOWN_MAX: usize = 128;

/// A request's query, decoded as forms are.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Whatever is there: Google's clients send parameters of every API, some of them repeatedly.
    pub fn of(request: &HttpRequest) -> Self {
        let pairs = pairs(request.query_string());
        Self(pairs.map(|(name, value)| (decode_lossy(name), decode_lossy(value))).collect())
    }

    /// The parameters of `known`, each at most once; one that ends in `.*` stands for all that begin so. Others are refused, since a misspelt one must not be dropped
    /// in silence, and so is what is not UTF-8, which would name something else than was meant.
    pub fn read(request: &HttpRequest, known: &[&str]) -> Result<Self, FieldError> {
        let mut read: Vec<(String, String)> = Vec::new();
        for (name, value) in pairs(request.query_string()).take(PARAMETERS_MAX) {
            let name = decode_lossy(name);
            if !known.iter().any(|known| is_called(&name, known)) {
                let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
                return Err(FieldError::new(
                    shown,
                    Invalid::Rule("not be given: there is no such parameter"),
                ));
            }
            if read.iter().any(|(seen, _)| *seen == name) {
                return Err(FieldError::new(name, Invalid::Rule("be given once")));
            }
            let Ok(value) = percent_decode_str(&value.replace('+', " ")).decode_utf8().map(Cow::into_owned)
            else {
                return Err(FieldError::new(name, Invalid::Rule("be UTF-8 once percent-decoded")));
            };
            read.push((name, value));
        }
        Ok(Self(read))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every value of a repeatable parameter.
    pub fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        let given = self.0.iter().filter(move |(known, value)| known == name && !value.is_empty());
        given.map(|(_, value)| value.as_str())
    }

    /// The parameters that begin with `prefix`, by what follows it. An empty value is one.
    pub fn under<'q>(&'q self, prefix: &'q str) -> impl Iterator<Item = (&'q str, &'q str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// A point in time.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, FieldError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = || FieldError::new(name, Invalid::NO_TIME);
        Timestamp::parse_rfc3339(text).map(Some).ok_or_else(wrong)
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

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether `known` stands for a parameter of this name. What was not UTF-8 is called nothing that is kept.
fn is_called(name: &str, known: &str) -> bool {
    match known.strip_suffix('*') {
        None => name == known,
        Some(prefix) => name.starts_with(prefix) && !name.contains(char::REPLACEMENT_CHARACTER),
    }
}

fn decode_lossy(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}
