//! `/v1/channels`: open, list, read, put, change, stop.

mod read;
mod show;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use serde_json::{Value, json};

pub(super) use self::{
    read::take_expiry,
    show::{attempt_json, view_json},
};
use self::{
    read::{read_change, read_open},
    show::{detail_json, opened_json},
};
use super::{Problem, authenticate, json_answer, page_token, read_page_token};
use crate::{
    app::{
        App, Principal,
        access::is_name,
        channels::{ChangeRequest, ChannelError, OpenRequest, PAGE_MAX},
        options::OptionsRequest,
        stop_all::StoppedAll,
    },
    domain::{
        channel::{self, ChannelKey, ChannelState},
        invalid::{FieldError, InField, Invalid},
        resource::ResourcePath,
    },
    store::ChannelFilter,
    web::{
        Web,
        body::{self, Object},
        extract::Query,
    },
};

const BODY_BYTES_MAX: usize = 64 * 1_024;
const PAGE_DEFAULT: i64 = 50;

pub async fn open(request: HttpRequest, payload: Payload, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let opened = web.app.open_channel(&principal, read_open(Object::parse(&bytes)?, None)?).await?;
    Ok(json_answer(StatusCode::CREATED, &opened_json(&web.app, &opened)))
}

/// Creates the channel, or changes it where the id is taken by one that lives.
pub async fn put(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let open = read_open(Object::parse(&bytes)?, Some(id.as_str()))?;
    // Looked at first: what was read of a channel and is sent back makes no sense for one that is to be opened.
    let present = web.app.channel(&principal, &id).await;
    if present.is_ok_and(|present| present.channel.id == *id) {
        return replace(&web.app, &principal, &id, open).await;
    }
    match web.app.open_channel(&principal, open.clone()).await {
        Ok(opened) => Ok(json_answer(StatusCode::CREATED, &opened_json(&web.app, &opened))),
        Err(ChannelError::IdTaken(_)) => replace(&web.app, &principal, &id, open).await,
        Err(error) => Err(error.into()),
    }
}

async fn replace(
    app: &App,
    principal: &Principal,
    id: &str,
    open: OpenRequest,
) -> Result<HttpResponse, Problem> {
    // An id that somebody else's channel has looks taken, no more.
    let taken = || Problem::from(ChannelError::IdTaken(id.to_owned()));
    let current = app.channel(principal, id).await.map_err(|error| match error {
        ChannelError::NotFound => taken(),
        error => error.into(),
    })?;
    let path = ResourcePath::parse_for(&open.resource, &principal.subject).in_field("resource")?;
    if current.channel.id != id || path != current.channel.resource_path {
        return Err(Problem::from(FieldError::new(
            "resource",
            Invalid::Rule("stay what the channel was opened on"),
        )));
    }
    if open.secret.is_some() {
        return Err(Problem::from(FieldError::new(
            "secret",
            Invalid::Rule("be given only when the channel is opened; secret/rotate replaces it"),
        )));
    }
    let given =
        open.signatures.map(|schemes| schemes.iter().map(|scheme| scheme.as_str()).collect::<Vec<_>>());
    if given.is_some_and(|given| given != current.channel.options.signatures) {
        return Err(Problem::from(FieldError::new(
            "signatures",
            Invalid::Rule("stay what the channel was opened with"),
        )));
    }
    if open.ordering != current.channel.options.ordering {
        return Err(Problem::from(FieldError::new(
            "ordering",
            Invalid::Rule("stay what the channel was opened with"),
        )));
    }
    let change = ChangeRequest {
        address: Some(open.address),
        token: Some(open.token),
        expiry: open.expiry,
        renews: false,
        payload: open.payload,
        format: Some(open.format),
        catch_up: open.catch_up,
        options: in_full(open.options),
    };
    let changed = app.change_channel(principal, id, change).await?;
    Ok(json_answer(StatusCode::OK, &view_json(app, &changed)))
}

/// A PUT says everything: what it leaves out is the default again.
fn in_full(given: OptionsRequest) -> OptionsRequest {
    OptionsRequest {
        headers: Some(given.headers.unwrap_or_default()),
        metadata: Some(given.metadata.unwrap_or_default()),
        retry: Some(given.retry.unwrap_or_default()),
        events: Some(given.events.unwrap_or_default()),
        event_states: given.event_states,
        event_types: given.event_types,
        rate_limit: Some(given.rate_limit.flatten()),
        renewal: Some(given.renewal.unwrap_or_default()),
        lifecycle: Some(given.lifecycle.unwrap_or_default()),
        lifecycle_address: Some(given.lifecycle_address.flatten()),
        redirects: Some(given.redirects.unwrap_or_default()),
        auth: Some(given.auth.flatten()),
        excerpts: Some(given.excerpts.unwrap_or_default()),
    }
}

pub async fn get(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let detail = web.app.channel_detail(&principal, &id).await?;
    Ok(json_answer(StatusCode::OK, &detail_json(&web.app, &detail)))
}

pub async fn list(request: HttpRequest, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["resource", "state", "subject", "metadata.*", "limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)?;
    let resource = query
        .get("resource")
        .map(|written| ResourcePath::parse_for(written, &principal.subject).in_field("resource"));
    let state = query.get("state").map(|word| {
        ChannelState::parse(word).ok_or_else(|| FieldError::new("state", Invalid::Type("a channel state")))
    });
    let filter = ChannelFilter {
        resource: resource.transpose()?,
        state: state.transpose()?,
        subject: query.get("subject").map(read_subject).transpose()?,
        metadata: read_metadata(&query)?,
        before: read_page_token(query.get("pageToken"))?.map(ChannelKey),
        limit,
    };
    let views = web.app.list_channels(&principal, filter).await?;
    let full = i64::try_from(views.len()).is_ok_and(|rows| rows == limit);
    let next = views.last().filter(|_| full).map(|view| page_token(view.channel.key.0));
    let items: Vec<_> = views.iter().map(|view| view_json(&web.app, view)).collect();
    Ok(json_answer(StatusCode::OK, &page(&items, next)))
}

/// Labels by which a list may be narrowed at once.
const METADATA_FILTERS_MAX: usize = 4;

/// `metadata.<key>=<value>`, several of which must all hold.
fn read_metadata(query: &Query) -> Result<Vec<(String, String)>, FieldError> {
    let labels: Vec<(String, String)> =
        query.under("metadata.").map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if labels.len() > METADATA_FILTERS_MAX {
        return Err(FieldError::new("metadata.*", Invalid::TooMany { max: METADATA_FILTERS_MAX }));
    }
    // What no label can be is not looked up: not every store takes every text.
    channel::check_metadata(&labels.iter().cloned().collect()).in_field("metadata.*")?;
    Ok(labels)
}

fn read_subject(name: &str) -> Result<String, FieldError> {
    let wrong = || FieldError::new("subject", Invalid::Rule("be the name of a subject"));
    is_name(name).then(|| name.to_owned()).ok_or_else(wrong)
}

pub async fn patch(
    request: HttpRequest,
    id: Path<String>,
    payload: Payload,
    web: Data<Web>,
) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let bytes = body::read(payload, BODY_BYTES_MAX, &web.app.clock).await?;
    let change = read_change(Object::parse(&bytes)?)?;
    let changed = web.app.change_channel(&principal, &id, change).await?;
    Ok(json_answer(StatusCode::OK, &view_json(&web.app, &changed)))
}

pub async fn delete(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    web.app.stop_channel(&principal, &id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Everything of a subject whose access ended.
pub async fn stop_all(request: HttpRequest, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["subject"])?;
    let subject = query.get("subject").ok_or_else(|| FieldError::new("subject", Invalid::Missing))?;
    Ok(match web.app.stop_subject(&principal, &read_subject(subject)?).await? {
        StoppedAll::Entirely => HttpResponse::NoContent().finish(),
        StoppedAll::InPart => HttpResponse::Accepted().finish(),
    })
}

pub(super) fn page(items: &[Value], next: Option<String>) -> Value {
    let mut page = json!({ "items": items });
    if let Some(next) = next {
        page["nextPageToken"] = next.into();
    }
    page
}
