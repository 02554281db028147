//! `POST …/channels/stop`: ends a channel, named by id and resource id together.

use actix_web::{HttpRequest, HttpResponse, web::Payload};

use super::{GoogleError, authenticate, read_body};
use crate::{
    app::channels::ChannelError,
    web::{Web, body::Object},
};

pub async fn handle(request: &HttpRequest, payload: Payload, web: &Web) -> Result<HttpResponse, GoogleError> {
    let principal = authenticate(request, web).await?;
    let body = read_body(payload, web).await?;
    let mut channel = Object::parse(&body)?;
    let id = channel.take_required_string("id")?;
    let resource_id = channel.take_required_string("resourceId")?;
    match web.app.stop_channel_of_resource(&principal, &id, &resource_id).await {
        Ok(()) => Ok(HttpResponse::NoContent().finish()),
        Err(ChannelError::NotFound | ChannelError::Ended) => Err(not_found(&id, &principal.project)),
        Err(error) => Err(GoogleError::of_channel(error, "")),
    }
}

fn not_found(id: &str, project: &str) -> GoogleError {
    let id: String = id.chars().filter(|letter| !letter.is_control()).take(64).collect();
    GoogleError::new(404, "notFound", format!("Channel '{id}' not found for project '{project}'"))
}
