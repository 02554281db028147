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
    app::{claims::ClaimPage, feed::PAGE_MAX},
    domain::{event::Event, id},
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
    let page = web.app.pull_claim(&capability, after, usize::try_from(limit).unwrap_or(1)).await?;
    let mut answer = json_answer(StatusCode::OK, &page_json(&page));
    // Previews and caches must not keep what only the holder of the URL may read.
    answer.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("private, no-store"));
    answer.headers_mut().insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
    Ok(answer)
}

async fn acknowledge(
    capability: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let through = body.take_required_whole_number("through")?;
    body.finish()?;
    let number = web.app.acknowledge_claim(&capability, through).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "through": number })))
}

async fn resume(capability: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    web.app.resume_claim(&capability).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn page_json(page: &ClaimPage) -> Value {
    let items: Vec<Value> = page.events.iter().map(|event| item_json(page, event)).collect();
    let mut answer = json!({ "items": items, "earliestNumber": page.earliest_number });
    if let Some(last) = page.events.last().filter(|_| page.has_more) {
        answer["nextPageToken"] = page_token(page.channel.number_of(last.seq)).into();
    }
    answer
}

fn item_json(page: &ClaimPage, event: &Event) -> Value {
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
        "parked": false,
    })
}
