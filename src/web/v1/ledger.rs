//! `GET /v1/channels/{id}/attempts` and `/parked`: what was tried, and what was set aside.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path},
};
use serde_json::{Value, json};

use super::{
    Problem, authenticate,
    channels::{attempt_json, page},
    json_answer, page_token, read_page_token,
};
use crate::{
    app::attempts::{PAGE_MAX, PARKED_PAGE_MAX},
    domain::{
        channel::Channel,
        id,
        invalid::{FieldError, Invalid},
        outcome::Verdict,
        time::Timestamp,
    },
    store::{AttemptFilter, ParkedNotification},
    web::{Web, extract::Query},
};

const PAGE_DEFAULT: i64 = 50;

pub async fn attempts(
    request: HttpRequest,
    id: Path<String>,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["outcome", "number", "after", "before", "limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)?;
    let token = read_page_token(query.get("pageToken"))?;
    let page_read = web.app.attempts(&principal, &id, read_filter(&query)?, token, limit).await?;
    let items: Vec<Value> = page_read.attempts.iter().map(attempt_json).collect();
    Ok(json_answer(StatusCode::OK, &page(&items, page_read.next.map(page_token))))
}

fn read_filter(query: &Query) -> Result<AttemptFilter, FieldError> {
    let outcome = query.get("outcome").map(|word| {
        Verdict::parse(word)
            .ok_or_else(|| FieldError::new("outcome", Invalid::Type("an outcome of an attempt")))
    });
    let number = match query.get("number") {
        Some(_) => Some(query.number("number", 1, 1, i64::MAX)?),
        None => None,
    };
    Ok(AttemptFilter {
        outcome: outcome.transpose()?,
        number,
        after: query.time("after")?,
        before: query.time("before")?,
    })
}

pub async fn parked(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PARKED_PAGE_MAX)?;
    let after = read_page_token(query.get("pageToken"))?;
    let (channel, parked) = web.app.parked(&principal, &id, after, limit).await?;
    let is_full = i64::try_from(parked.len()).is_ok_and(|rows| rows == limit);
    let next = parked.last().filter(|_| is_full).map(|last| page_token(channel.number_of(last.seq)));
    let items: Vec<Value> = parked.iter().map(|parked| parked_json(&channel, parked)).collect();
    Ok(json_answer(StatusCode::OK, &page(&items, next)))
}

fn parked_json(channel: &Channel, parked: &ParkedNotification) -> Value {
    let number = channel.number_of(parked.seq);
    // The sync stands at a seq of its own: what the log has there is another channel's event.
    let sync = (parked.seq == channel.start_seq).then_some(("watchpost.channel.sync", "sync"));
    let event = parked.event.as_ref().map(|(name, state)| (name.as_str(), state.as_str()));
    let (name, state) = sync.or(event).unzip();
    json!({
        "number": number,
        "seq": parked.seq,
        "id": id::webhook_id(&channel.uid, number),
        "name": name,
        "state": state,
        "reason": parked.reason,
        "status": parked.status,
        "error": parked.error,
        "attempts": parked.attempts,
        "parkedAt": Timestamp::to_rfc3339(parked.parked_at),
    })
}
