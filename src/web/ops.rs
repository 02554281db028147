//! Probes for whoever runs the server. `/healthz`: the process answers. `/readyz`: so does its store. They are served
//! beside the faces, or on a listener of their own.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};

use super::Web;
use crate::domain::channel::ResourceKey;

pub fn routes(config: &mut ServiceConfig) {
    config.route("/healthz", web::get().to(healthz));
    config.route("/healthz", web::head().to(healthz));
    config.route("/readyz", web::get().to(readyz));
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

async fn readyz(web: Data<Web>) -> HttpResponse {
    // One indexed read: it tells that the store answers, not that its writer is idle.
    match web.app.store.busy_resources(ResourceKey(0), 1).await {
        Ok(_) => HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ready\n"),
        Err(error) => {
            tracing::warn!(error = %error, "not ready");
            HttpResponse::ServiceUnavailable()
                .content_type("text/plain; charset=utf-8")
                .body("the store is not reachable\n")
        }
    }
}
