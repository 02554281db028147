//! `POST /{path}/watch`: opens a channel on the resource that the path names.

use actix_web::{HttpRequest, HttpResponse, web::Payload};
use serde_json::json;

use super::{GoogleError, authenticate, read_body, selection};
use crate::{
    app::{
        App,
        channels::{OpenRequest, Opened},
        options::OptionsRequest,
    },
    domain::{
        channel::{CatchUp, Face, Format, Ordering, Redirects, Renewal, SignatureScheme},
        expiry::Asked,
        invalid::Invalid,
        time::Timestamp,
    },
    web::{Web, body::Object, extract::Query},
};

pub async fn handle(
    request: &HttpRequest,
    payload: Payload,
    web: &Web,
    resource: &str,
) -> Result<HttpResponse, GoogleError> {
    let principal = authenticate(request, web).await?;
    let parameters = Query::of(request);
    if resource == "drive/v3/changes" && parameters.get("pageToken").is_none() {
        return Err(GoogleError::required_parameter("pageToken"));
    }
    let selected = selection::read(&parameters, resource)?;
    let body = read_body(payload, web).await?;
    let query = Some(request.query_string()).filter(|query| !query.is_empty()).map(str::to_owned);
    let Asking { mut open, claims } = read_channel(&body, resource, query)?;
    open.options.event_states = selected.states;
    open.options.event_types = selected.types;
    let address = open.address.clone();
    let opened = web.app.open_channel(&principal, open).await;
    let opened = opened.map_err(|error| GoogleError::of_channel(error, &address))?;
    let claim_url = claims.then(|| web.app.claim_url(&opened.channel));
    let body = channel_json(&web.app, &opened, claim_url).to_string() + "\n";
    Ok(HttpResponse::Ok().content_type("application/json; charset=UTF-8").body(body))
}

/// What a watch asks for, and whether its answer shall show the claim URL.
struct Asking {
    open: OpenRequest,
    claims: bool,
}

/// A `Channel` as clients send it. Output fields that people paste along, and unknown ones, are ignored.
fn read_channel(body: &[u8], resource: &str, query: Option<String>) -> Result<Asking, GoogleError> {
    let mut channel = Object::parse(body)?;
    let id = channel.take_required_string("id")?;
    let kind = channel.take_required_string("type")?;
    if !matches!(kind.as_str(), "web_hook" | "webhook") {
        return Err(channel.error("type", Invalid::Type("web_hook")).into());
    }
    let address = channel.take_required_string("address")?;
    let token = channel.take_string("token")?;
    let at = channel.take_millis("expiration")?.map(Timestamp::from_millis);
    let payload = channel.take_bool("payload")?;
    let mut expiry = Asked { at, ttl_seconds: None };
    let mut claims = false;
    let mut catch_up = None;
    let mut ordering = None;
    let mut signatures = None;
    let mut options = OptionsRequest::default();
    if let Some(mut params) = channel.take_object("params")? {
        expiry.ttl_seconds = params.take_whole_number("ttl")?;
        let yes = |text: &str| matches!(text, "true" | "\"true\"");
        claims = params.take("claims").is_some_and(|value| yes(value.get()));
        catch_up = params.take_word("catchUp", CatchUp::parse, "all or latest")?;
        ordering = params.take_word("ordering", Ordering::parse, "fifo or none")?;
        options.lifecycle = params.take("lifecycle").map(|value| yes(value.get()));
        options.lifecycle_address = params.take_string("lifecycleAddress")?.map(Some);
        options.renewal = params.take_word("renewal", Renewal::parse, "none or auto")?;
        options.redirects = params.take_word("redirects", Redirects::parse, "retry, fail or update")?;
        if let Some(words) = params.take_string("signatures")? {
            let schemes = words.split([',', ' ']).filter(|word| !word.is_empty()).map(SignatureScheme::parse);
            let schemes: Option<Vec<_>> = schemes.collect();
            signatures = Some(schemes.ok_or_else(|| {
                params.error("signatures", Invalid::Type("v1, v1a and jwt, separated by spaces"))
            })?);
        }
    }
    let open = OpenRequest {
        face: Face::Google,
        id: Some(id),
        resource: resource.to_owned(),
        query,
        address,
        token,
        expiry,
        format: Format::Google,
        payload,
        catch_up,
        signatures,
        secret: None,
        ordering: ordering.unwrap_or_default(),
        options,
    };
    Ok(Asking { open, claims })
}

/// What Google answers, and the secret or the claim URL where they were asked for. `expiration` is a string: an int64 in JSON.
fn channel_json(app: &App, opened: &Opened, claim_url: Option<String>) -> serde_json::Value {
    let channel = &opened.channel;
    let mut answer = json!({
        "kind": "api#channel",
        "id": channel.id,
        "resourceId": channel.resource_id,
        "resourceUri": channel.resource_uri,
        "expiration": channel.expires_at.as_millis().to_string(),
    });
    if let Some(token) = app.channel_token(channel) {
        answer["token"] = token.into();
    }
    if let Some(secret) = &opened.secret {
        answer["params"]["secret"] = secret.reveal().into();
    }
    if let Some(claim_url) = claim_url {
        answer["params"]["claimUrl"] = claim_url.into();
    }
    answer
}
