//! `/claims/{capability}`: what a receiver has not had, and its acknowledgement. No bearer token: the URL is the key,
//! so it stands in no log and no error text.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Data, Path, Payload, ServiceConfig},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    Web,
    body::{self, Object},
    extract::Query,
    v1::{Problem, json_answer, page_token, read_page_token},
};
use crate::{
    app::{
        claims::{ClaimError, ClaimItem, ClaimPage},
        feed::PAGE_MAX,
    },
    domain::{id, invalid::Invalid},
};

const BODY_BYTES_MAX: usize = 16 * 1_024;
const PAGE_DEFAULT: i64 = 100;

pub fn routes(config: &mut ServiceConfig) {
    config.route("/claims/{capability}", web::get().to(pull));
    config.route("/claims/{capability}/ack", web::post().to(acknowledge));
    config.route("/claims/{capability}/resume", web::post().to(resume));
}

async fn pull(
    request: HttpRequest,
    capability: Path<String>,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, i64::try_from(PAGE_MAX).unwrap_or(i64::MAX))?;
    let after = read_page_token(query.get("pageToken"))?;
    let page = web.app.pull_claim(&capability, after, usize::try_from(limit).unwrap_or(1)).await;
    let page = unless_guessing(&web, &request, page)?;
    let mut answer = json_answer(StatusCode::OK, &page_json(&page));
    // Previews and caches must not keep what only the holder of the URL may read.
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("private, no-store"));
    answer.headers_mut().insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    Ok(answer)
}

async fn acknowledge(
    request: HttpRequest,
    capability: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let (through, ids) = (body.take_whole_number("through")?, body.take_strings("ids")?);
    let missing = body.error("through", Invalid::Missing);
    body.finish()?;
    if through.is_none() && ids.is_none() {
        return Err(missing.into());
    }
    let mut answer = json!({});
    // What is wrong with the ids is found before anything moves.
    if let Some(ids) = ids {
        let settled = web.app.settle_claims(&capability, &ids).await;
        answer["settled"] = unless_guessing(&web, &request, settled)?.into();
    }
    if let Some(through) = through {
        let number = web.app.acknowledge_claim(&capability, through).await;
        answer["through"] = unless_guessing(&web, &request, number)?.into();
    }
    Ok(json_answer(StatusCode::OK, &answer))
}

async fn resume(
    request: HttpRequest,
    capability: Path<String>,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let resumed = web.app.resume_claim(&capability).await;
    unless_guessing(&web, &request, resumed)?;
    Ok(HttpResponse::NoContent().finish())
}

/// An outcome as it is, unless it is one wrong guess too many.
fn unless_guessing<T>(
    web: &Web,
    request: &HttpRequest,
    outcome: Result<T, ClaimError>,
) -> Result<T, Problem> {
    if matches!(outcome, Err(ClaimError::NotFound))
        && let Some(wait) = web.wrong_claim(request)
    {
        return Err(Problem::too_many("too many wrong claim URLs", wait));
    }
    Ok(outcome?)
}

fn page_json(page: &ClaimPage) -> Value {
    let items: Vec<Value> = page.items.iter().map(|item| item_json(page, item)).collect();
    let mut answer = json!({ "items": items, "earliestNumber": page.earliest_number });
    if page.has_more {
        answer["nextPageToken"] = page_token(page.channel.number_of(page.through)).into();
    }
    answer
}

fn item_json(page: &ClaimPage, item: &ClaimItem) -> Value {
    let event = &item.event;
    let number = page.channel.number_of(event.seq);
    let payload = event.payload.as_ref();
    json!({
        "id": id::webhook_id(&page.channel.uid, number),
        "number": number,
        "seq": event.seq,
        "name": event.name,
        "state": event.state,
        "time": event.published_at.to_rfc3339(),
        "contentType": payload.map(|payload| payload.content_type.as_str()),
        "dataBase64": payload.map(|payload| BASE64_STANDARD.encode(&payload.bytes)),
        "parked": item.parked,
    })
}
