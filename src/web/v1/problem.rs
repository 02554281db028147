//! Problems (RFC 9457). `code` is stable; `field` names the wrong value by its path.

use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError, body::BoxBody, http::StatusCode};
use serde_json::json;

use crate::{
    app::{
        AccessError,
        api_keys::KeyError,
        channels::ChannelError,
        claims::ClaimError,
        erasure::ErasureError,
        fates::EventError,
        feed::FeedError,
        publish::PublishError,
        resources::{ResourceError, UNDECLARED},
        signing_keys::KeysError,
    },
    domain::{
        expiry::ExpiryError,
        invalid::{FieldError, Invalid},
    },
    store::StoreError,
    web::body::BodyError,
};

/// What every refused address is told, whatever it was refused for: a text that differed would tell a stranger what
/// lies behind a name or number. The log has the reason, and the setting that would open the address.
const ADDRESS_DEMANDS: &str = "must be an https URL of at most 2048 bytes that names a public host, on port 443 or one \
     that is open here, without spaces or a fragment, and without \
     credentials, which belong in auth; for one in your own network, the server's operator \
     opens that network with WATCHPOST_EGRESS_ALLOW";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    code: &'static str,
    detail: String,
    field: Option<String>,
    /// More members that a code defines.
    more: Option<(&'static str, i64)>,
    retry_after_seconds: Option<u32>,
}

impl Problem {
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, more: None, retry_after_seconds: None }
    }

    fn in_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub fn no_route(request: &HttpRequest) -> Self {
        let path: String = request.path().chars().filter(|letter| !letter.is_control()).take(128).collect();
        Self::new(404, "noSuchRoute", format!("there is no {} {path}", request.method()))
    }

    pub fn too_many(detail: &str, wait: std::time::Duration) -> Self {
        let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        Self { retry_after_seconds: Some(seconds), ..Self::new(429, "tooManyRequests", detail) }
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(404, "notFound", format!("there is no such {what}"))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Problem"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        });
        if let Some(field) = &self.field {
            body["field"] = field.as_str().into();
        }
        if let Some((name, value)) = self.more {
            body[name] = value.into();
        }
        let mut response = HttpResponse::build(status);
        if self.status == 401 {
            response.insert_header(("WWW-Authenticate", "Bearer realm=\"watchpost\""));
        }
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        response.content_type("application/problem+json").body(body.to_string() + "\n")
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}

impl From<AccessError> for Problem {
    fn from(error: AccessError) -> Self {
        let (status, code) = match error {
            AccessError::NotThere => return Self::not_found("resource"),
            AccessError::Missing => (401, "credentialsMissing"),
            AccessError::Invalid | AccessError::Expired => (401, "credentialsInvalid"),
            AccessError::Scope(_) => (403, "scopeMissing"),
            AccessError::Resource => (403, "resourceNotAllowed"),
            AccessError::Unavailable => (503, "accessUnavailable"),
        };
        let retry_after_seconds = (status == 503).then_some(1);
        Self { retry_after_seconds, ..Self::new(status, code, error.to_string()) }
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        let code = match error.problem {
            Invalid::Missing => "fieldMissing",
            Invalid::Type(_) => "fieldType",
            Invalid::TooLong { .. } | Invalid::TooMany { .. } => "fieldTooLong",
            Invalid::NotHeaderSafe | Invalid::Rule(_) => "fieldInvalid",
        };
        Self::new(400, code, error.to_string()).in_field(error.field)
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let (status, code) = match error {
            BodyError::TooLarge { .. } => (413, "bodyTooLarge"),
            BodyError::TooSlow | BodyError::Broken => (408, "bodyTimeout"),
            BodyError::Empty | BodyError::NotJson(_) | BodyError::NotObject => (400, "bodyNotJson"),
            BodyError::Field(error) => return error.into(),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (status, code, detail) = match error {
            StoreError::CommitUnknown => (
                503,
                "commitUnknown",
                "whether the request took effect is unknown: repeat it with the same id or Idempotency-Key",
            ),
            StoreError::Unavailable(_) | StoreError::Closed | StoreError::Fenced => {
                (503, "storeUnavailable", "the store is not reachable right now")
            }
            StoreError::Database(_) | StoreError::Unreadable(_) | StoreError::Unwritable(_) => {
                (500, "internal", "something went wrong on our side")
            }
        };
        tracing::warn!(
            error = ?error,
            problem.code = code,
            "a request failed in the store"
        );
        let retry_after_seconds = (status == 503).then_some(1);
        Self { retry_after_seconds, ..Self::new(status, code, detail) }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Access(error) => error.into(),
            PublishError::Field(error) => error.into(),
            PublishError::KeyConflict => {
                Self::new(409, "idempotencyKeyConflict", error.to_string()).in_field("Idempotency-Key")
            }
            PublishError::IdConflict { ref field } => {
                Self::new(409, "eventIdConflict", error.to_string()).in_field(field.clone())
            }
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<ChannelError> for Problem {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Access(error) => error.into(),
            ChannelError::Field(error) => error.into(),
            ChannelError::Expiry(ExpiryError::At(problem)) => FieldError::new("expiresAt", problem).into(),
            ChannelError::Expiry(ExpiryError::Ttl(problem)) => FieldError::new("ttlSeconds", problem).into(),
            ChannelError::Address { field, .. } => {
                Self::new(400, "addressNotAllowed", format!("{field} {ADDRESS_DEMANDS}")).in_field(field)
            }
            ChannelError::IdTaken(_) => Self::new(409, "channelIdTaken", error.to_string()).in_field("id"),
            ChannelError::Undeclared => FieldError::new("resource", UNDECLARED).into(),
            ChannelError::NotFound => Self::not_found("channel"),
            ChannelError::NotOwner => Self::new(403, "notOwner", error.to_string()),
            ChannelError::Ended => Self::new(409, "channelEnded", error.to_string()),
            ChannelError::Paused => Self::new(409, "channelPaused", error.to_string()),
            ChannelError::Unsigned => Self::new(409, "channelUnsigned", error.to_string()),
            ChannelError::TooManySecrets { .. } => Self::new(409, "tooManySecrets", error.to_string()),
            ChannelError::Lost { earliest_number } => Self {
                more: Some(("earliestNumber", earliest_number)),
                ..Self::new(410, "expired", error.to_string())
            },
            ChannelError::Store(error) => error.into(),
        }
    }
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::NotFound => Self::not_found("claim"),
            ClaimError::Field(error) => error.into(),
            ClaimError::Ended => Self::new(409, "channelEnded", error.to_string()),
            ClaimError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Access(error) => error.into(),
            KeyError::Field(error) => error.into(),
            KeyError::NotFound => Self::not_found("key"),
            KeyError::Store(error) => error.into(),
        }
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Access(error) => error.into(),
            EventError::NotFound => Self::not_found("event"),
            EventError::Store(error) => error.into(),
        }
    }
}

impl From<ResourceError> for Problem {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::Access(error) => error.into(),
            ResourceError::Field(error) => error.into(),
            ResourceError::NotFound => Self::not_found("resource"),
            ResourceError::Own => Self::new(409, "resourceNeeded", error.to_string()),
            ResourceError::Store(error) => error.into(),
        }
    }
}

impl From<ErasureError> for Problem {
    fn from(error: ErasureError) -> Self {
        match error {
            ErasureError::Access(error) => error.into(),
            ErasureError::NotFound => Self::not_found("event"),
            ErasureError::Store(error) => error.into(),
        }
    }
}

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Access(error) => error.into(),
            KeysError::Field(error) => error.into(),
            KeysError::TooMany { .. } => Self::new(409, "tooManyKeys", error.to_string()),
            KeysError::Raced => Self::new(409, "keysRaced", error.to_string()),
            KeysError::Store(error) => error.into(),
        }
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Access(error) => error.into(),
            FeedError::Field(error) => error.into(),
            FeedError::Hole { earliest_seq } => Self {
                more: Some(("earliestSeq", earliest_seq)),
                ..Self::new(410, "feedHole", error.to_string())
            },
            FeedError::Store(error) => error.into(),
        }
    }
}
