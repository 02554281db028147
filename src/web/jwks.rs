//! `/.well-known/jwks.json`: the public halves of the server's own signing keys, for whoever verifies.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header::CACHE_CONTROL},
    web::{self, Data, ServiceConfig},
};

use super::{
    Web,
    v1::{Problem, json_answer},
};
use crate::domain::signing_key::KEPT_FOR;

pub fn routes(config: &mut ServiceConfig) {
    config.route("/.well-known/jwks.json", web::get().to(show));
    config.route("/.well-known/jwks.json", web::head().to(show));
}

async fn show(web: Data<Web>) -> HttpResponse {
    match web.app.published_keys().await {
        Ok(keys) => {
            let mut answer = json_answer(StatusCode::OK, &keys);
            let kept = format!("public, max-age={}", KEPT_FOR.as_secs());
            if let Ok(kept) = kept.parse() {
                answer.headers_mut().insert(CACHE_CONTROL, kept);
            }
            answer
        }
        Err(error) => Problem::from(error).error_response(),
    }
}
