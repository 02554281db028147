//! Google's error envelope, and which reason says what.
//!
//! Reasons carry their `push.` prefix and stand in the domain `global`, as Calendar and Drive send them.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, Responder, http::StatusCode};
use serde_json::json;

use crate::{
    app::{AccessError, channels::ChannelError},
    domain::{
        expiry::ExpiryError,
        invalid::{FieldError, Invalid},
    },
    outbound::Refusal,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleError {
    code: u16,
    reason: &'static str,
    message: String,
    location: Option<(&'static str, &'static str)>,
    retry_after_seconds: u64,
}

impl GoogleError {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), location: None, retry_after_seconds: 1 }
    }

    fn at(mut self, kind: &'static str, place: &'static str) -> Self {
        self.location = Some((kind, place));
        self
    }

    pub fn too_many(wait: Duration) -> Self {
        let retry_after_seconds = wait.as_secs().saturating_add(1);
        Self { retry_after_seconds, ..Self::new(429, "rateLimitExceeded", "Rate Limit Exceeded") }
    }

    pub fn parse_error() -> Self {
        Self::new(400, "parseError", "Parse Error")
    }

    pub fn no_body() -> Self {
        Self::new(400, "required", "entity.resource")
    }

    pub fn required_parameter(name: &'static str) -> Self {
        Self::new(400, "required", format!("Required parameter: {name}")).at("parameter", name)
    }

    /// A query parameter with a value that is none of the documented ones. `value` is the caller's own text.
    pub fn unknown_value(name: &'static str, value: &str, allowed: &[&str]) -> Self {
        let value: String = value.chars().filter(|letter| !letter.is_control()).take(64).collect();
        let allowed = allowed.join(", ");
        Self::new(400, "invalid", format!("Invalid string value: '{value}'. Allowed values: [{allowed}]"))
            .at("parameter", name)
    }

    /// An address that the policy refused. `address` is the caller's own text, cut to a sane length.
    pub fn of_address(refusal: Refusal, address: &str) -> Self {
        let address: String = address.chars().filter(|letter| !letter.is_control()).take(256).collect();
        match refusal {
            Refusal::NotHttps => Self::new(
                400,
                "push.webhookUrlNotHttps",
                format!("WebHook callback must be HTTPS: {address}"),
            ),
            Refusal::Unparsable | Refusal::NoHost | Refusal::BadCharacters | Refusal::TooLong => Self::new(
                400,
                "push.webhookUrlNoHostOrAddress",
                format!("WebHook callback has no usable host or address: {address}"),
            ),
            _ => Self::new(
                401,
                "push.webhookUrlUnauthorized",
                format!("Unauthorized WebHook callback channel: {address}"),
            ),
        }
    }

    pub fn of_channel(error: ChannelError, address: &str) -> Self {
        match error {
            ChannelError::Access(error) => error.into(),
            ChannelError::Field(error) => error.into(),
            ChannelError::Expiry(ExpiryError::At(problem)) => FieldError::new("expiration", problem).into(),
            ChannelError::Expiry(ExpiryError::Ttl(problem)) => FieldError::new("params.ttl", problem).into(),
            ChannelError::Address { field: "address", refusal } => Self::of_address(refusal, address),
            ChannelError::Address { field, .. } => {
                let problem = Invalid::Rule("be an address that notifications may be sent to");
                FieldError::new(format!("params.{field}"), problem).into()
            }
            ChannelError::IdTaken(id) => {
                Self::new(400, "channelIdNotUnique", format!("Channel id {id} not unique"))
            }
            ChannelError::Undeclared
            | ChannelError::NotFound
            | ChannelError::Ended
            | ChannelError::Paused
            | ChannelError::Unsigned
            | ChannelError::TooManySecrets { .. }
            | ChannelError::Lost { .. } => Self::new(404, "notFound", "Not Found"),
            ChannelError::NotOwner => {
                Self::new(403, "stopChannelCallerNotOwner", "The caller is not the owner of the channel.")
            }
            ChannelError::Store(error) => {
                tracing::warn!(error = %error, "a request of the Google face failed in the store");
                Self::new(503, "backendError", "Backend Error")
            }
        }
    }
}

impl From<AccessError> for GoogleError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::Missing => {
                Self::new(401, "required", "Login Required").at("header", "Authorization")
            }
            AccessError::Invalid | AccessError::Expired => {
                Self::new(401, "authError", "Invalid Credentials").at("header", "Authorization")
            }
            AccessError::NotThere => Self::new(404, "notFound", "Not Found"),
            AccessError::Unavailable => Self::new(503, "backendError", "Backend Error"),
            AccessError::Scope(_) | AccessError::Resource => {
                Self::new(403, "insufficientPermissions", "Request had insufficient authentication scopes.")
            }
        }
    }
}

impl From<FieldError> for GoogleError {
    fn from(error: FieldError) -> Self {
        match error.problem {
            Invalid::Missing => Self::new(400, "required", format!("Required: channel.{}", error.field)),
            Invalid::Rule(_) if error.field == "id" => {
                Self::new(400, "push.channelIdInvalid", format!("Invalid value: channel.{error}"))
            }
            _ => Self::new(400, "invalid", format!("Invalid value: channel.{error}")),
        }
    }
}

impl Responder for GoogleError {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let mut detail = json!({ "domain": "global", "reason": self.reason, "message": self.message });
        if let Some((kind, place)) = self.location {
            detail["locationType"] = kind.into();
            detail["location"] = place.into();
        }
        let status = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = HttpResponse::build(status);
        if self.code == 401 {
            response.insert_header(("WWW-Authenticate", "Bearer realm=\"watchpost\""));
        }
        if matches!(self.code, 429 | 503) {
            response.insert_header(("Retry-After", self.retry_after_seconds.to_string()));
        }
        response.content_type("application/json; charset=UTF-8").body(
            json!({ "error": { "code": self.code, "message": self.message, "errors": [detail] } })
                .to_string(),
        )
    }
}
