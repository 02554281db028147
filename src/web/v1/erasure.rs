//! `DELETE /v1/events/{id}/data`: the data goes, the event stays.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};

use super::{Problem, authenticate};
use crate::web::Web;

pub async fn erase(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    web.app.erase_event(&principal, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}
