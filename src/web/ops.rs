//! Probes for whoever runs the server. `/healthz`: the process answers. `/readyz`: so does its store.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};

use super::Web;
use crate::domain::channel::ResourceKey;

pub fn routes(config: &mut ServiceConfig) {
    config.route("/", web::get().to(welcome));
    config.route("/healthz", web::get().to(healthz));
    config.route("/healthz", web::head().to(healthz));
    config.route("/readyz", web::get().to(readyz));
}

/// For whoever opens the server in a browser to see what it is.
async fn welcome(web: Data<Web>) -> HttpResponse {
    let text = format!(
        "This is Watchpost {}, a push-notification channel service.\n\n\
         native API    {}/events, {}/channels   described in /openapi.json\n\
         Google face   POST /{{resource}}/watch, POST /{{…}}/channels/stop\n\
         probes        /healthz, /readyz\n",
        env!("CARGO_PKG_VERSION"),
        web.native_prefix,
        web.native_prefix,
    );
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)
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
