//! `POST /v1/events`: one event, a batch, or any content type as the body with `?resource=R&name=N`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header::CONTENT_TYPE},
    web::{Bytes, Data, Payload as Body},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{Problem, authenticate, json_answer};
use crate::{
    app::{
        Scope,
        publish::{Draft, EVENTS_MAX, PublishRequest, REQUEST_BYTES_MAX},
    },
    domain::{
        event::{PAYLOAD_BYTES_MAX, Payload},
        invalid::{FieldError, Invalid},
    },
    web::{
        Web,
        body::{self, Object},
        extract::Query,
    },
};

const OCTETS: &str = "application/octet-stream";

pub async fn publish(request: HttpRequest, payload: Body, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    principal.require(Scope::Events)?;
    let idempotency_key = idempotency_key(&request)?;
    let query = Query::read(&request, &["resource", "name", "id", "state", "changed"])?;
    let events = if query.is_empty() {
        let bytes = body::read(payload, REQUEST_BYTES_MAX, &web.app.clock).await?;
        read(&bytes, idempotency_key)?
    } else {
        let bytes = body::read(payload, PAYLOAD_BYTES_MAX, &web.app.clock).await?;
        PublishRequest { events: vec![raw(&request, &query, bytes)?], listed: false, idempotency_key }
    };
    let placed = web.app.publish(&principal, events).await?;
    Ok(json_answer(StatusCode::OK, &json!({ "events": placed })))
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, FieldError> {
    const NAME: &str = "Idempotency-Key";
    let mut values = request.headers().get_all(NAME);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(FieldError::new(NAME, Invalid::Rule("be given once")));
    }
    value.to_str().map(|key| Some(key.to_owned())).map_err(|_| FieldError::new(NAME, Invalid::NotHeaderSafe))
}

/// The body is the data, whatever its type.
fn raw(request: &HttpRequest, query: &Query, bytes: Bytes) -> Result<Draft, FieldError> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    let required = |name: &str| text(name).ok_or_else(|| FieldError::new(name, Invalid::Missing));
    let content_type = match request.headers().get(CONTENT_TYPE) {
        Some(value) => value.to_str().map_err(|_| FieldError::new("Content-Type", Invalid::NotHeaderSafe))?,
        None => OCTETS,
    };
    Ok(Draft {
        id: text("id"),
        resources: vec![required("resource")?],
        singular: true,
        name: required("name")?,
        state: text("state"),
        changed: text("changed"),
        payload: (!bytes.is_empty()).then(|| Payload { content_type: content_type.to_owned(), bytes }),
    })
}

fn read(body: &Bytes, idempotency_key: Option<String>) -> Result<PublishRequest, Problem> {
    let mut object = Object::parse(body)?;
    let Some(list) = object.take_list("events")? else {
        return Ok(PublishRequest { events: vec![draft(object)?], listed: false, idempotency_key });
    };
    object.finish()?;
    if list.len() > EVENTS_MAX {
        return Err(FieldError::new("events", Invalid::TooMany { max: EVENTS_MAX }).into());
    }
    let drafts =
        list.into_iter().enumerate().map(|(at, item)| draft(Object::nested(item, &format!("events[{at}]"))?));
    Ok(PublishRequest { events: drafts.collect::<Result<_, _>>()?, listed: true, idempotency_key })
}

fn draft(mut event: Object<'_>) -> Result<Draft, FieldError> {
    let singular = event.take_string("resource")?;
    let several = event.take_strings("resources")?;
    let (resources, singular) = match (singular, several) {
        (Some(one), None) => (vec![one], true),
        (None, Some(several)) => (several, false),
        (Some(_), Some(_)) => {
            return Err(event.error("resources", Invalid::Rule("not stand beside resource")));
        }
        (None, None) => return Err(event.error("resource", Invalid::Missing)),
    };
    let draft = Draft {
        id: event.take_string("id")?,
        resources,
        singular,
        name: event.take_required_string("name")?,
        state: event.take_string("state")?,
        changed: changed(&mut event)?,
        payload: payload(&mut event)?,
    };
    event.finish()?;
    Ok(draft)
}

/// A list, or its text with commas.
fn changed(event: &mut Object<'_>) -> Result<Option<String>, FieldError> {
    match event.take("changed") {
        None => Ok(None),
        Some(value) => match serde_json::from_str::<Vec<String>>(value.get()) {
            Ok(parts) => Ok(Some(parts.join(",")).filter(|all| !all.is_empty())),
            Err(_) => serde_json::from_str::<String>(value.get())
                .map(|text| Some(text).filter(|text| !text.is_empty()))
                .map_err(|_| event.error("changed", Invalid::Type("a string or a list of strings"))),
        },
    }
}

/// `data` is kept byte for byte as it stands in the request; other types come as `dataBase64`.
fn payload(event: &mut Object<'_>) -> Result<Option<Payload>, FieldError> {
    let data = event.take("data");
    let encoded = event.take_string("dataBase64")?;
    let content_type = event.take_string("contentType")?;
    match (data, encoded) {
        (Some(_), Some(_)) => Err(event.error("dataBase64", Invalid::Rule("not stand beside data"))),
        (Some(data), None) => {
            let content_type = content_type.unwrap_or_else(|| Payload::JSON.to_owned());
            let payload = Payload { content_type, bytes: Bytes::copy_from_slice(data.get().as_bytes()) };
            if payload.is_json() {
                Ok(Some(payload))
            } else {
                Err(event
                    .error("contentType", Invalid::Rule("be JSON for data; use dataBase64 for other types")))
            }
        }
        (None, Some(encoded)) => {
            let bytes = BASE64_STANDARD
                .decode(&encoded)
                .map_err(|_| event.error("dataBase64", Invalid::Type("base64 with padding")))?;
            if bytes.len() > PAYLOAD_BYTES_MAX {
                let too_long = Invalid::TooLong { max: PAYLOAD_BYTES_MAX, unit: "bytes once decoded" };
                return Err(event.error("dataBase64", too_long));
            }
            let content_type = content_type.unwrap_or_else(|| OCTETS.to_owned());
            Ok(Some(Payload { content_type, bytes: Bytes::from(bytes) }))
        }
        (None, None) if content_type.is_some() => {
            Err(event.error("contentType", Invalid::Rule("come with dataBase64")))
        }
        (None, None) => Ok(None),
    }
}
