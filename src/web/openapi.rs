//! `GET /openapi.json`: the description of the native API, written by hand and held against the sources by
//! `tests/openapi`.

use actix_web::{
    HttpResponse,
    web::{self, Data, ServiceConfig},
};

use super::Web;

const DOCUMENT: &str = include_str!("../../openapi/v1.json");
/// Where the document says that the native API lives.
const SERVER: &str = r#""url": "/v1""#;

pub fn routes(config: &mut ServiceConfig) {
    config.route("/openapi.json", web::get().to(document));
}

async fn document(web: Data<Web>) -> HttpResponse {
    // A prefix is made of unreserved characters alone, so it needs no escaping.
    let here = format!(r#""url": "{}""#, web.native_prefix);
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.replacen(SERVER, &here, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_has_one_place_in_the_document() {
        assert_eq!(DOCUMENT.matches(SERVER).count(), 1);
    }
}
