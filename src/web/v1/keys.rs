//! `POST /v1/keys/rotate`: replaces the server's own signing key. For `watchpost keys rotate` beside a running embedded
//! server, which alone may write its store.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Payload},
};
use serde_json::{Value, json};

use super::{Problem, authenticate, commands::take_overlap, json_answer};
use crate::{
    app::signing_keys::uses,
    domain::time::Timestamp,
    web::{
        Web,
        body::{self, Object},
    },
};

const BODY_BYTES_MAX: usize = 1_024;

pub async fn rotate(request: HttpRequest, payload: Payload, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let mut body = Object::parse(&bytes)?;
    let overlap = take_overlap(&mut body)?;
    body.finish()?;
    let keys = web.app.rotate_signing_keys(&principal, overlap).await?;
    let shown: Vec<Value> = uses(&keys, web.app.now())
        .into_iter()
        .map(|(key, used)| {
            json!({
                "kid": key.kid,
                "use": used.as_str(),
                "createdAt": key.created_at.to_rfc3339(),
                "signsFrom": key.signs_from.to_rfc3339(),
                "until": key.until.map(Timestamp::to_rfc3339),
            })
        })
        .collect();
    Ok(json_answer(StatusCode::OK, &json!({ "items": shown })))
}
