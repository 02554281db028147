//! `/v1/apikeys`: make, list, revoke.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use serde_json::{Value, json};

use super::{Problem, authenticate, json_answer, page_token, read_page_token};
use crate::{
    app::api_keys::{KeyRequest, PAGE_MAX, PATTERN_BYTES_MAX, PATTERNS_MAX},
    domain::{invalid::Invalid, time::Timestamp},
    store::ApiKey,
    web::{
        Web,
        body::{self, BodyError, Object},
        extract::Query,
    },
};

const BODY_BYTES_MAX: usize = PATTERNS_MAX * PATTERN_BYTES_MAX + 16 * 1_024;
const PAGE_DEFAULT: i64 = 50;

pub async fn create(request: HttpRequest, payload: Payload, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let (key, text) = web.app.create_key(&principal, read(&bytes)?).await?;
    let mut shown = key_json(&key);
    shown["key"] = text.reveal().into();
    Ok(json_answer(StatusCode::CREATED, &shown))
}

fn read(bytes: &[u8]) -> Result<KeyRequest, BodyError> {
    let mut key = Object::parse(bytes)?;
    let request = KeyRequest {
        name: key.take_string("name")?,
        subject: key.take_required_string("subject")?,
        scopes: key.take_strings("scopes")?.ok_or_else(|| key.error("scopes", Invalid::Missing))?,
        resources: key.take_strings("resources")?,
        expires_at: key.take_time("expiresAt")?,
        ttl_seconds: key.take_whole_number("ttlSeconds")?,
    };
    key.finish()?;
    Ok(request)
}

pub async fn list(request: HttpRequest, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)?;
    let before = read_page_token(query.get("pageToken"))?;
    let keys = web.app.list_keys(&principal, before, limit).await?;
    let is_full = i64::try_from(keys.len()).is_ok_and(|rows| rows == limit);
    let mut page = json!({ "items": keys.iter().map(key_json).collect::<Vec<_>>() });
    if let Some(last) = keys.last().filter(|_| is_full) {
        page["nextPageToken"] = page_token(last.row).into();
    }
    Ok(json_answer(StatusCode::OK, &page))
}

pub async fn revoke(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    web.app.revoke_key(&principal, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A key as it may be shown: never its text.
pub fn key_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "subject": key.subject,
        "scopes": key.scopes.split(' ').collect::<Vec<_>>(),
        "resources": key.resources,
        "createdAt": key.created_at.to_rfc3339(),
        "expiresAt": key.expires_at.map(Timestamp::to_rfc3339),
        "lastUsedAt": key.last_used_at.map(Timestamp::to_rfc3339),
    })
}
