//! `/v1/resources`: list, read, declare, delete.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use serde_json::{Value, json};

use super::{Problem, authenticate, json_answer, page_token, read_page_token};
use crate::{
    app::resources::{Deleted, PAGE_MAX},
    domain::channel::ResourceKey,
    store::ResourceView,
    web::{
        Web,
        body::{self, Object},
        extract::Query,
    },
};

const BODY_BYTES_MAX: usize = 16 * 1_024;
const PAGE_DEFAULT: i64 = 50;

pub async fn list(request: HttpRequest, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)?;
    let after = read_page_token(query.get("pageToken"))?.map(ResourceKey);
    let (views, next) = web.app.list_resources(&principal, after, limit).await?;
    let mut page = json!({ "items": views.iter().map(resource_json).collect::<Vec<_>>() });
    if let Some(next) = next {
        page["nextPageToken"] = page_token(next.0).into();
    }
    Ok(json_answer(StatusCode::OK, &page))
}

pub async fn get(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let view = web.app.resource(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &resource_json(&view)))
}

pub async fn put(request: HttpRequest, payload: Payload, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let resource = body.take_required_string("resource")?;
    body.finish()?;
    let (view, is_new) = web.app.declare_resource(&principal, &resource).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_answer(status, &resource_json(&view)))
}

pub async fn delete(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    Ok(match web.app.delete_resource(&principal, &id).await? {
        Deleted::Entirely => HttpResponse::NoContent().finish(),
        Deleted::InPart => HttpResponse::Accepted().finish(),
    })
}

fn resource_json(view: &ResourceView) -> Value {
    json!({
        "resource": view.path.as_str(),
        "resourceId": view.resource_id,
        "headSeq": view.head_seq,
        "oldestSeq": view.oldest_seq,
        "channels": view.channels,
        "declared": view.declared,
        "createdAt": view.created_at.to_rfc3339(),
    })
}
