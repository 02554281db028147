//! `GET /`: what this is, in a few lines.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};

use super::Web;

pub fn routes(config: &mut ServiceConfig) {
    config.route("/", web::get().to(welcome));
}

/// For whoever opens the server in a browser to see what it is.
async fn welcome(web: Data<Web>) -> HttpResponse {
    let text = format!(
        "This is Watchpost {}, a push-notification channel service.\n\n\
         native API    {}/events, {}/channels   described in /openapi.json\n\
         Google face   POST /{{resource}}/watch, POST /{{…}}/channels/stop\n",
        env!("CARGO_PKG_VERSION"),
        web.native_prefix,
        web.native_prefix,
    );
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(text)
}
