//! `POST /v1/channels/{id}/…`: what an owner does to a channel besides changing its values.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use serde_json::json;

use super::{
    Problem, authenticate,
    channels::{take_expiry, view_json},
    json_answer,
};
use crate::{
    app::{
        channels::ChangeRequest,
        replay::{NUMBERS_MAX, PING_BYTES_MAX, Ping, Redriven, ReplayFrom},
        secrets::RotateRequest,
    },
    domain::{
        duration::parse_duration,
        hidden::Hidden,
        invalid::{FieldError, Invalid},
        time::Timestamp,
    },
    web::{
        Web,
        body::{self, BodyError, Object},
    },
};

const BODY_BYTES_MAX: usize = PING_BYTES_MAX + 16 * 1_024;

pub async fn pause(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let view = web.app.pause_channel(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&web.app, &view)))
}

pub async fn resume(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let view = web.app.resume_channel(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&web.app, &view)))
}

pub async fn skip(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let through = body.take_required_whole_number("throughNumber")?;
    body.finish()?;
    let view = web.app.skip(&principal, &id, through).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&web.app, &view)))
}

pub async fn rotate_claim(
    request: HttpRequest,
    id: Path<String>,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let claim_url = web.app.rotate_claim(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "claimUrl": claim_url })))
}

/// Without a body, a new secret beside which the present one goes on for a day.
pub async fn rotate_secret(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let rotation = match optional(&bytes)? {
        None => RotateRequest::default(),
        Some(body) => read_rotation(body)?,
    };
    let rotated = web.app.rotate_secret(&principal, &id, rotation).await?;
    let shown = json!({
        "secret": rotated.secret.reveal(),
        "overlapEndsAt": rotated.overlap_ends_at.map(Timestamp::to_rfc3339),
    });
    Ok(json_answer(StatusCode::OK, &shown))
}

fn read_rotation(mut body: Object<'_>) -> Result<RotateRequest, FieldError> {
    let overlap = take_overlap(&mut body)?;
    let rotation = RotateRequest { secret: body.take_string("secret")?.map(Hidden::new), overlap };
    body.finish()?;
    Ok(rotation)
}

pub(super) fn take_overlap(body: &mut Object<'_>) -> Result<Option<Duration>, FieldError> {
    let Some(text) = body.take_string("overlap")? else { return Ok(None) };
    let wrong = |_| body.error("overlap", Invalid::Type("a duration such as 24h"));
    parse_duration(&text).map(Some).map_err(wrong)
}

/// A new life: as long as is asked for, else the server's default.
pub async fn renew(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let expiry = match optional(&bytes)? {
        None => ChangeRequest::default().expiry,
        Some(mut body) => {
            let expiry = take_expiry(&mut body)?;
            body.finish()?;
            expiry
        }
    };
    let change = ChangeRequest { expiry, renews: true, ..ChangeRequest::default() };
    let view = web.app.change_channel(&principal, &id, change).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&web.app, &view)))
}

pub async fn ping(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut ping = Ping::default();
    if let Some(mut body) = optional(&bytes)? {
        ping.name = body.take_string("name")?;
        ping.data = body.take("data").and_then(|data| serde_json::from_str(data.get()).ok());
        body.finish()?;
    }
    let id = web.app.ping(&principal, &id, ping).await?;
    Ok(json_answer(StatusCode::ACCEPTED, &json!({ "id": id })))
}

pub async fn replay(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let from = match (body.take_whole_number("fromNumber")?, body.take_time("fromTime")?) {
        (Some(number), None) => ReplayFrom::Number(number),
        (None, Some(time)) => ReplayFrom::Time(time),
        (Some(_), Some(_)) => {
            return Err(body.error("fromTime", Invalid::Rule("not stand beside fromNumber")).into());
        }
        (None, None) => {
            return Err(body.error("fromNumber", Invalid::Rule("be given, or fromTime")).into());
        }
    };
    body.finish()?;
    let (replay_id, view) = web.app.replay(&principal, &id, from).await?;
    let mut shown = view_json(&web.app, &view);
    shown["replayId"] = replay_id.into();
    Ok(json_answer(StatusCode::OK, &shown))
}

/// Without a body, everything that is parked.
pub async fn redrive(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let which = match optional(&bytes)? {
        None => Redriven::All,
        Some(body) => read_redriven(body)?,
    };
    let (replay_id, redriven) = web.app.redrive(&principal, &id, which).await?;
    Ok(json_answer(StatusCode::ACCEPTED, &json!({ "replayId": replay_id, "redriven": redriven })))
}

fn read_redriven(mut body: Object<'_>) -> Result<Redriven, FieldError> {
    let numbers = match body.take_list("numbers")? {
        None => None,
        Some(items) if items.len() > NUMBERS_MAX => {
            return Err(body.error("numbers", Invalid::TooMany { max: NUMBERS_MAX }));
        }
        Some(items) => {
            let read = |(at, item): (usize, &&serde_json::value::RawValue)| {
                let wrong = |_| body.error(&format!("numbers[{at}]"), Invalid::Type("a message number"));
                serde_json::from_str::<i64>(item.get()).map_err(wrong)
            };
            Some(items.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?)
        }
    };
    let from = body.take_whole_number("fromNumber")?;
    let through = body.take_whole_number("throughNumber")?;
    let which = match (numbers, from, through) {
        (Some(numbers), None, None) => Redriven::Numbers(numbers),
        (Some(_), _, _) => {
            return Err(body.error("numbers", Invalid::Rule("not stand beside a range")));
        }
        (None, None, None) => Redriven::All,
        (None, from, through) => {
            Redriven::Range { from: from.unwrap_or(1), through: through.unwrap_or(i64::MAX) }
        }
    };
    body.finish()?;
    Ok(which)
}

/// A body that may be left out, or be `null`.
fn optional(bytes: &[u8]) -> Result<Option<Object<'_>>, BodyError> {
    match Object::parse(bytes) {
        Err(BodyError::NotObject) if bytes.trim_ascii() == b"null" => Ok(None),
        Err(BodyError::Empty) => Ok(None),
        read => read.map(Some),
    }
}
