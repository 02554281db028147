//! The native API: camelCase JSON, times in RFC 3339, problems in RFC 9457, lists as `{items, nextPageToken}`.

mod api_keys;
mod channels;
mod commands;
mod erasure;
mod events;
mod fates;
mod jobs;
mod keys;
mod ledger;
mod problem;
mod publish;
mod resources;

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::StatusCode,
    web::{self, ServiceConfig},
};
use serde::Serialize;

pub use self::{api_keys::key_json as api_key_json, problem::Problem};
use super::{NotAdmitted, Web, extract::bearer};
pub(super) use crate::domain::place::page_token;
use crate::{
    app::Principal,
    domain::{
        invalid::{FieldError, Invalid},
        place,
    },
};

/// Each route by its method, so that what is not registered here falls through to the Google face.
pub fn routes(config: &mut ServiceConfig, prefix: &str) {
    let path = |rest: &str| format!("{prefix}{rest}");
    config.route(&path("/events"), web::post().to(publish::publish));
    config.route(&path("/events"), web::get().to(events::feed));
    config.route(&path("/events/{id}"), web::get().to(fates::show));
    config.route(&path("/events/{id}/data"), web::delete().to(erasure::erase));
    config.route(&path("/channels"), web::post().to(channels::open));
    config.route(&path("/channels"), web::get().to(channels::list));
    config.route(&path("/channels"), web::delete().to(channels::stop_all));
    config.route(&path("/channels/{id}"), web::get().to(channels::get));
    config.route(&path("/channels/{id}"), web::put().to(channels::put));
    config.route(&path("/channels/{id}"), web::patch().to(channels::patch));
    config.route(&path("/channels/{id}"), web::delete().to(channels::delete));
    config.route(&path("/channels/{id}/attempts"), web::get().to(ledger::attempts));
    config.route(&path("/channels/{id}/parked"), web::get().to(ledger::parked));
    config.route(&path("/channels/{id}/renew"), web::post().to(commands::renew));
    config.route(&path("/channels/{id}/ping"), web::post().to(commands::ping));
    config.route(&path("/channels/{id}/replay"), web::post().to(commands::replay));
    config.route(&path("/channels/{id}/parked/redrive"), web::post().to(commands::redrive));
    config.route(&path("/channels/{id}/pause"), web::post().to(commands::pause));
    config.route(&path("/channels/{id}/resume"), web::post().to(commands::resume));
    config.route(&path("/channels/{id}/skip"), web::post().to(commands::skip));
    config.route(&path("/channels/{id}/claim/rotate"), web::post().to(commands::rotate_claim));
    config.route(&path("/channels/{id}/secret/rotate"), web::post().to(commands::rotate_secret));
    config.route(&path("/resources"), web::get().to(resources::list));
    config.route(&path("/resources"), web::put().to(resources::put));
    config.route(&path("/resources/{resourceId}"), web::get().to(resources::get));
    config.route(&path("/resources/{resourceId}"), web::delete().to(resources::delete));
    config.route(&path("/apikeys"), web::post().to(api_keys::create));
    config.route(&path("/apikeys"), web::get().to(api_keys::list));
    config.route(&path("/apikeys/{id}"), web::delete().to(api_keys::revoke));
    config.route(&path("/jobs/{name}"), web::post().to(jobs::run));
    config.route(&path("/keys/rotate"), web::post().to(keys::rotate));
}

async fn authenticate(request: &HttpRequest, web: &Web) -> Result<Principal, Problem> {
    web.admit(request, || bearer(request)).await.map_err(|reason| match reason {
        NotAdmitted::Refused(error) => error.into(),
        NotAdmitted::GuessesTooOften(wait) => Problem::too_many("too many wrong credentials", wait),
        NotAdmitted::AsksTooOften(wait) => Problem::too_many("this caller asks too often", wait),
    })
}

/// A JSON answer, with the newline that a terminal wants.
pub(super) fn json_answer(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    match serde_json::to_string(body) {
        Ok(text) => HttpResponse::build(status).content_type("application/json").body(text + "\n"),
        Err(_) => Problem::new(500, "internal", "the answer could not be written").error_response(),
    }
}

pub(super) fn read_page_token(token: Option<&str>) -> Result<Option<i64>, FieldError> {
    let Some(token) = token else { return Ok(None) };
    let wrong =
        || FieldError::new("pageToken", Invalid::Rule("be a token that a list of the same kind has given"));
    place::read_page_token(token).map(Some).ok_or_else(wrong)
}
