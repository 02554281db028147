//! `GET /v1/events`: the change feed of one resource.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web::Data};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json, value::RawValue};

use super::{Problem, authenticate};
use crate::{
    app::feed::{FeedPage, FeedRequest, From, PAGE_MAX, WAIT_MAX},
    domain::{
        duration::parse_duration,
        event::Event,
        invalid::{FieldError, Invalid},
    },
    web::{Web, extract::Query},
};

const PAGE_DEFAULT: i64 = 100;

pub async fn feed(request: HttpRequest, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["resource", "after", "syncToken", "limit", "wait"])?;
    let page = web.app.feed(&principal, read(&query)?).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(page_json(&page)? + "\n"))
}

fn read(query: &Query) -> Result<FeedRequest, FieldError> {
    let resource = query.get("resource").ok_or_else(|| FieldError::new("resource", Invalid::Missing))?;
    let from = match (query.get("syncToken"), query.get("after")) {
        (Some(_), Some(_)) => {
            return Err(FieldError::new("after", Invalid::Rule("not stand beside syncToken")));
        }
        (Some(token), None) => From::SyncToken(token.to_owned()),
        (None, _) => From::Seq(query.number("after", 0, 0, i64::MAX)?),
    };
    let limit = query.number("limit", PAGE_DEFAULT, 1, i64::try_from(PAGE_MAX).unwrap_or(i64::MAX))?;
    let wait = match query.get("wait") {
        None => Duration::ZERO,
        Some(text) => parse_duration(text)
            .ok()
            .filter(|wait| *wait <= WAIT_MAX)
            .ok_or_else(|| FieldError::new("wait", Invalid::Rule("be a duration of at most 25s")))?,
    };
    Ok(FeedRequest { resource: resource.to_owned(), from, limit: usize::try_from(limit).unwrap_or(1), wait })
}

/// Written with the data's own bytes in it, which a JSON value would not keep.
fn page_json(page: &FeedPage) -> Result<String, Problem> {
    let items = page
        .events
        .iter()
        .map(|event| event_json(page.resource.as_str(), &page.resource_id, event))
        .collect::<Result<Vec<_>, _>>()?;
    let tail = json!({ "nextSyncToken": page.next_sync_token, "hasMore": page.has_more }).to_string();
    Ok(format!("{{\"items\":[{}],{}", items.join(","), tail.trim_start_matches('{')))
}

pub(super) fn event_json(resource: &str, resource_id: &str, event: &Event) -> Result<String, Problem> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct EventJson<'e> {
        id: &'e str,
        seq: i64,
        resource: &'e str,
        resource_id: &'e str,
        name: &'e str,
        state: &'e str,
        time: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        changed: Option<&'e str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        content_type: Option<&'e str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'e RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_base64: Option<Value>,
    }
    let payload = event.payload.as_ref();
    // A raw publish may call anything JSON: what is not goes out in base64.
    let data: Option<&RawValue> = payload
        .filter(|payload| payload.is_json())
        .and_then(|payload| serde_json::from_slice(&payload.bytes).ok());
    let data_base64 =
        payload.filter(|_| data.is_none()).map(|payload| BASE64_STANDARD.encode(&payload.bytes).into());
    let shown = EventJson {
        id: &event.id,
        seq: event.seq,
        resource,
        resource_id,
        name: &event.name,
        state: &event.state,
        time: event.published_at.to_rfc3339(),
        changed: event.changed.as_deref(),
        content_type: payload.map(|payload| payload.content_type.as_str()),
        data,
        data_base64,
    };
    serde_json::to_string(&shown).map_err(|_| Problem::new(500, "internal", "an event could not be shown"))
}
