//! `POST /v1/channels/{id}/…`: what an owner does to a channel besides changing its values.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use serde_json::json;

use super::{Problem, authenticate, channels::view_json, json_answer};
use crate::web::{
    Web,
    body::{self, Object},
};

const BODY_BYTES_MAX: usize = 16 * 1_024;

pub async fn pause(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let view = web.app.pause_channel(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&view)))
}

pub async fn resume(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let view = web.app.resume_channel(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&view)))
}

pub async fn skip(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let through = body.take_required_whole_number("throughNumber")?;
    body.finish()?;
    let view = web.app.skip(&principal, &id, through).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&view)))
}

pub async fn rotate_claim(
    request: HttpRequest,
    id: Path<String>,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web)?;
    let claim_url = web.app.rotate_claim(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "claimUrl": claim_url })))
}
