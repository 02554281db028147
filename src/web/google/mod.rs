//! The Google face: `POST /{anything}/watch` and `POST /{…}/channels/stop`, any Google path by one generic route.
//!
//! Source: the discovery documents and push guides of the Calendar, Drive, Directory and Reports APIs. Unmodified
//! Google clients work; a plain request sees nothing that Google would not send.

mod error;
mod selection;
mod stop;
mod watch;

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    http::Method,
    web::{self, Data, Payload, ServiceConfig},
};

use self::error::GoogleError;
use super::{
    NotAdmitted, Web,
    body::{self, BodyError},
    extract::{Query, bearer},
    v1::Problem,
};
use crate::app::{Principal, access::QUERY_CREDENTIALS};

/// Channels are small; whole channel resources pasted back are still far below.
const BODY_BYTES_MAX: usize = 64 * 1_024;

pub fn routes(config: &mut ServiceConfig) {
    config.default_service(web::to(dispatch));
}

/// Whatever no native route took.
async fn dispatch(request: HttpRequest, payload: Payload, web: Data<Web>) -> HttpResponse {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let post = request.method() == Method::POST;
    if post && (path == "channels/stop" || path.ends_with("/channels/stop")) {
        return answer(stop::handle(&request, payload, &web).await, &request);
    }
    if post && let Some(resource) = path.strip_suffix("/watch") {
        return answer(watch::handle(&request, payload, &web, resource).await, &request);
    }
    Problem::no_route(&request).respond_to(&request).map_into_boxed_body()
}

fn answer(outcome: Result<HttpResponse, GoogleError>, request: &HttpRequest) -> HttpResponse {
    outcome.unwrap_or_else(|error| error.respond_to(request).map_into_boxed_body())
}

/// Google's clients send a bearer token, or put it into the query.
async fn authenticate(request: &HttpRequest, web: &Web) -> Result<Principal, GoogleError> {
    let token = || {
        let query = Query::of(request);
        let given = |name: &&str| query.get(name).map(str::to_owned);
        Ok(bearer(request)?.or_else(|| QUERY_CREDENTIALS.iter().find_map(given)))
    };
    web.admit(request, token).await.map_err(|reason| match reason {
        NotAdmitted::Refused(error) => error.into(),
        NotAdmitted::GuessesTooOften(wait) | NotAdmitted::AsksTooOften(wait) => GoogleError::too_many(wait),
    })
}

async fn read_body(payload: Payload, web: &Web) -> Result<web::Bytes, GoogleError> {
    Ok(body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?)
}

impl From<BodyError> for GoogleError {
    fn from(error: BodyError) -> Self {
        match error {
            // People who put the channel into the query send no body at all.
            BodyError::Empty => Self::no_body(),
            BodyError::NotJson(_) | BodyError::NotObject => Self::parse_error(),
            BodyError::Field(error) => error.into(),
            BodyError::TooLarge { .. } => Self::new(413, "uploadTooLarge", "Request too large."),
            BodyError::TooSlow | BodyError::Broken => Self::new(408, "requestTimeout", "Request timed out."),
        }
    }
}
