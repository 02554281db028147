//! `/v1/channels`: open, list, read, put, change, stop, and what was attempted.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use serde_json::{Value, json};

use super::{Problem, authenticate, json_answer, page_token, read_page_token};
use crate::{
    app::{
        App, Principal,
        access::is_name,
        attempts::PAGE_MAX as ATTEMPTS_PAGE_MAX,
        channels::{ChangeRequest, ChannelError, OpenRequest, Opened, PAGE_MAX},
    },
    domain::{
        channel::{CatchUp, Channel, ChannelKey, ChannelState, Face, Format, SignatureScheme},
        duration::parse_duration,
        expiry::Asked,
        invalid::{FieldError, InField, Invalid},
        resource::ResourcePath,
        time::Timestamp,
    },
    store::{ChannelFilter, ChannelView, RecordedAttempt},
    web::{
        Web,
        body::{self, Object},
        extract::Query,
    },
};

const BODY_BYTES_MAX: usize = 64 * 1_024;
const PAGE_DEFAULT: i64 = 50;
/// Options that come with a later version: refused, not dropped in silence.
const LATER: &[&str] =
    &["events", "auth", "rateLimit", "renewal", "lifecycle", "lifecycleAddress", "redirects"];

pub async fn open(request: HttpRequest, payload: Payload, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let opened = web.app.open_channel(&principal, read_open(Object::parse(&bytes)?, None)?).await?;
    Ok(json_answer(StatusCode::CREATED, &opened_json(&web.app, &opened)))
}

/// Creates the channel, or changes it where the id is taken by one that lives.
pub async fn put(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let open = read_open(Object::parse(&bytes)?, Some(id.as_str()))?;
    match web.app.open_channel(&principal, open.clone()).await {
        Ok(opened) => Ok(json_answer(StatusCode::CREATED, &opened_json(&web.app, &opened))),
        Err(ChannelError::IdTaken(_)) => replace(&web.app, &principal, &id, open).await,
        Err(error) => Err(error.into()),
    }
}

async fn replace(
    app: &App,
    principal: &Principal,
    id: &str,
    open: OpenRequest,
) -> Result<HttpResponse, Problem> {
    // An id that somebody else's channel has looks taken, no more.
    let taken = || Problem::from(ChannelError::IdTaken(id.to_owned()));
    let current = app.channel(principal, id).await.map_err(|error| match error {
        ChannelError::NotFound => taken(),
        error => error.into(),
    })?;
    let path = ResourcePath::parse_for(&open.resource, &principal.subject).in_field("resource")?;
    if current.channel.id != id || path != current.channel.resource_path {
        return Err(Problem::from(FieldError::new(
            "resource",
            Invalid::Rule("stay what the channel was opened on"),
        )));
    }
    if open.secret.is_some() {
        return Err(Problem::from(FieldError::new(
            "secret",
            Invalid::Rule("be given only when the channel is opened"),
        )));
    }
    let given =
        open.signatures.map(|schemes| schemes.iter().map(|scheme| scheme.as_str()).collect::<Vec<_>>());
    if given.is_some_and(|given| given != current.channel.options.signatures) {
        return Err(Problem::from(FieldError::new(
            "signatures",
            Invalid::Rule("stay what the channel was opened with"),
        )));
    }
    let change = ChangeRequest {
        address: Some(open.address),
        token: Some(open.token),
        expiry: open.expiry,
        payload: open.payload,
        format: Some(open.format),
        catch_up: open.catch_up,
        headers: Some(open.headers),
        retry_schedule: Some(open.retry_schedule),
        metadata: Some(open.metadata),
    };
    let changed = app.change_channel(principal, id, change).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&changed)))
}

pub async fn get(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let view = web.app.channel(&principal, &id).await?;
    let last = web.app.last_attempt(&view.channel).await?;
    let mut shown = view_json(&view);
    shown["lastAttempt"] = last.as_ref().map_or(Value::Null, attempt_json);
    Ok(json_answer(StatusCode::OK, &shown))
}

pub async fn list(request: HttpRequest, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let query = Query::read(&request, &["resource", "state", "subject", "limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)?;
    let resource = query
        .get("resource")
        .map(|written| ResourcePath::parse_for(written, &principal.subject).in_field("resource"));
    let state = query.get("state").map(|word| {
        ChannelState::parse(word).ok_or_else(|| FieldError::new("state", Invalid::Type("a channel state")))
    });
    let filter = ChannelFilter {
        resource: resource.transpose()?,
        state: state.transpose()?,
        subject: query.get("subject").map(read_subject).transpose()?,
        before: read_page_token(query.get("pageToken"))?.map(ChannelKey),
        limit,
    };
    let views = web.app.list_channels(&principal, filter).await?;
    let full = i64::try_from(views.len()).is_ok_and(|rows| rows == limit);
    let next = views.last().filter(|_| full).map(|view| page_token(view.channel.key.0));
    Ok(json_answer(StatusCode::OK, &page(&views.iter().map(view_json).collect::<Vec<_>>(), next)))
}

fn read_subject(name: &str) -> Result<String, FieldError> {
    let wrong = || FieldError::new("subject", Invalid::Rule("be the name of a subject"));
    is_name(name).then(|| name.to_owned()).ok_or_else(wrong)
}

pub async fn patch(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let change = read_change(Object::parse(&bytes)?)?;
    let changed = web.app.change_channel(&principal, &id, change).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&changed)))
}

pub async fn delete(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    web.app.stop_channel(&principal, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn attempts(
    request: HttpRequest,
    id: Path<String>,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let query = Query::read(&request, &["limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, ATTEMPTS_PAGE_MAX)?;
    let before = read_page_token(query.get("pageToken"))?;
    let attempts = web.app.attempts(&principal, &id, before, limit).await?;
    let full = i64::try_from(attempts.len()).is_ok_and(|rows| rows == limit);
    let next = attempts.last().filter(|_| full).map(|attempt| page_token(attempt.id));
    Ok(json_answer(StatusCode::OK, &page(&attempts.iter().map(attempt_json).collect::<Vec<_>>(), next)))
}

fn read_open(mut channel: Object<'_>, path_id: Option<&str>) -> Result<OpenRequest, FieldError> {
    refuse_later(&channel)?;
    let id = match (path_id, channel.take_string("id")?) {
        (Some(path), Some(given)) if path != given => {
            return Err(channel.error("id", Invalid::Rule("be the id in the path")));
        }
        (Some(path), _) => Some(path.to_owned()),
        (None, given) => given,
    };
    let open = OpenRequest {
        face: Face::Native,
        id,
        resource: channel.take_required_string("resource")?,
        query: None,
        address: channel.take_required_string("address")?,
        token: channel.take_string("token")?,
        expiry: take_expiry(&mut channel)?,
        format: take_format(&mut channel)?.unwrap_or(Format::Standard),
        payload: channel.take_bool("payload")?,
        catch_up: take_catch_up(&mut channel)?,
        signatures: take_signatures(&mut channel)?,
        secret: channel.take_string("secret")?,
        headers: channel.take_string_map("headers")?.unwrap_or_default(),
        retry_schedule: take_retry(&mut channel)?.unwrap_or_default(),
        metadata: channel.take_string_map("metadata")?.unwrap_or_default(),
    };
    take_ordering(&mut channel)?;
    channel.finish()?;
    Ok(open)
}

fn read_change(mut channel: Object<'_>) -> Result<ChangeRequest, FieldError> {
    refuse_later(&channel)?;
    for fixed in ["id", "resource", "secret", "signatures", "uid", "state"] {
        if channel.has(fixed) {
            return Err(channel.error(fixed, Invalid::Rule("not be changed here")));
        }
    }
    let token_given = channel.has("token");
    let change = ChangeRequest {
        address: channel.take_string("address")?,
        token: channel.take_string("token").map(|token| token_given.then_some(token))?,
        expiry: take_expiry(&mut channel)?,
        payload: channel.take_bool("payload")?,
        format: take_format(&mut channel)?,
        catch_up: take_catch_up(&mut channel)?,
        headers: channel.take_string_map("headers")?,
        retry_schedule: take_retry(&mut channel)?,
        metadata: channel.take_string_map("metadata")?,
    };
    take_ordering(&mut channel)?;
    channel.finish()?;
    Ok(change)
}

fn refuse_later(channel: &Object<'_>) -> Result<(), FieldError> {
    match LATER.iter().find(|name| channel.has(name)) {
        Some(name) => Err(channel.error(name, NOT_YET)),
        None => Ok(()),
    }
}

const NOT_YET: Invalid = Invalid::Rule("not be given: this version does not support it yet");

fn take_expiry(channel: &mut Object<'_>) -> Result<Asked, FieldError> {
    let at = match channel.take_string("expiresAt")? {
        None => None,
        Some(text) => {
            let parsed = Timestamp::parse_rfc3339(&text);
            let wrong = || channel.error("expiresAt", Invalid::Type("a time such as 2026-12-24T18:00:00Z"));
            Some(parsed.ok_or_else(wrong)?)
        }
    };
    Ok(Asked { at, ttl_seconds: channel.take_whole_number("ttlSeconds")? })
}

fn take_format(channel: &mut Object<'_>) -> Result<Option<Format>, FieldError> {
    channel.take_word("format", Format::parse, "google, standard or raw")
}

fn take_catch_up(channel: &mut Object<'_>) -> Result<Option<CatchUp>, FieldError> {
    channel.take_word("catchUp", CatchUp::parse, "all or latest")
}

fn take_signatures(channel: &mut Object<'_>) -> Result<Option<Vec<SignatureScheme>>, FieldError> {
    let Some(words) = channel.take_strings("signatures")? else { return Ok(None) };
    let schemes: Option<Vec<_>> = words.iter().map(|word| SignatureScheme::parse(word)).collect();
    schemes.map(Some).ok_or_else(|| channel.error("signatures", Invalid::Type("a list of v1, or empty")))
}

fn take_ordering(channel: &mut Object<'_>) -> Result<(), FieldError> {
    match channel.take_string("ordering")?.as_deref() {
        None | Some("fifo") => Ok(()),
        Some("none") => Err(channel.error("ordering", NOT_YET)),
        Some(_) => Err(channel.error("ordering", Invalid::Type("fifo or none"))),
    }
}

fn take_retry(channel: &mut Object<'_>) -> Result<Option<Vec<Duration>>, FieldError> {
    let Some(mut retry) = channel.take_object("retry")? else { return Ok(None) };
    for name in ["window", "maxAttempts", "onExhausted"] {
        if retry.has(name) {
            return Err(retry.error(name, NOT_YET));
        }
    }
    let steps = retry.take_strings("schedule")?;
    let schedule = steps.map(|steps| {
        let read = |(at, step): (usize, &String)| {
            let wrong = || retry.error(&format!("schedule[{at}]"), Invalid::Type("a duration such as 30s"));
            parse_duration(step).map_err(|_| wrong())
        };
        steps.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()
    });
    let schedule = schedule.transpose()?;
    retry.finish()?;
    Ok(schedule)
}

fn opened_json(app: &App, opened: &Opened) -> Value {
    let mut shown = channel_json(&opened.channel);
    shown["claimUrl"] = app.claim_url(&opened.channel).into();
    if let Some(secret) = &opened.secret {
        shown["secret"] = secret.reveal().into();
    }
    shown
}

fn channel_json(channel: &Channel) -> Value {
    let headers: BTreeMap<&str, &str> =
        channel.options.headers.keys().map(|name| (name.as_str(), "(set)")).collect();
    json!({
        "id": channel.id,
        "uid": channel.uid,
        "resource": channel.resource_path.as_str(),
        "resourceId": channel.resource_id,
        "resourceUri": channel.resource_uri,
        "subject": channel.subject,
        "address": channel.address,
        "token": channel.token,
        "format": channel.format.as_str(),
        "payload": channel.payload,
        "ordering": "fifo",
        "catchUp": channel.catch_up.as_str(),
        "signatures": channel.options.signatures,
        "headers": headers,
        "retry": { "schedule": schedule_json(&channel.options.retry_schedule_ms) },
        "metadata": channel.options.metadata,
        "state": channel.state.as_str(),
        "expiresAt": channel.expires_at.to_rfc3339(),
        "createdAt": channel.created_at.to_rfc3339(),
        "endedAt": channel.ended_at.map(Timestamp::to_rfc3339),
    })
}

/// `null` means the server's own schedule.
fn schedule_json(steps_ms: &[u64]) -> Value {
    if steps_ms.is_empty() {
        return Value::Null;
    }
    steps_ms.iter().map(|ms| crate::domain::duration::format_duration(Duration::from_millis(*ms))).collect()
}

pub(super) fn view_json(view: &ChannelView) -> Value {
    let mut shown = channel_json(&view.channel);
    let cursor = &view.cursor;
    // Before the sync is through, the cursor stands in front of the channel's first number.
    let number = view.channel.number_of(cursor.seq);
    shown["cursor"] = json!({
        "number": number,
        "seq": (number > 0).then_some(cursor.seq),
        "lag": view.head - cursor.seq,
        "attempts": cursor.failing.attempts,
        "failingSince": cursor.failing.since.map(Timestamp::to_rfc3339),
        "nextAttemptAt": cursor.failing.due_at.filter(|_| cursor.failing.attempts > 0).map(Timestamp::to_rfc3339),
    });
    shown
}

fn attempt_json(attempt: &RecordedAttempt) -> Value {
    json!({
        "number": attempt.number,
        "attempt": attempt.attempt,
        "startedAt": attempt.started_at.to_rfc3339(),
        "durationMs": attempt.duration_ms,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": attempt.error,
    })
}

fn page(items: &[Value], next: Option<String>) -> Value {
    let mut page = json!({ "items": items });
    if let Some(next) = next {
        page["nextPageToken"] = next.into();
    }
    page
}
