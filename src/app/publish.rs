//! Publishing: checked here, appended by the store's journal, told to the engine by the append bell.

use sha2::{Digest, Sha256};

use super::{AccessError, App, Principal, Scope, resources::UNDECLARED};
use crate::{
    domain::{
        event::{self, CHANGED_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, PAYLOAD_BYTES_MAX, Payload, STATE_DEFAULT},
        id,
        invalid::{FieldError, InField, Invalid, header_safe},
        resource::ResourcePath,
    },
    store::{Fingerprint, NewEvent, Placed, Publish, PublishOutcome, StoreError},
};

pub const EVENTS_MAX: usize = 1_000;
/// A request's payloads together.
pub const REQUEST_BYTES_MAX: usize = 4 * 1_024 * 1_024;
pub const RESOURCES_MAX: usize = 8;
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;

/// One event as a publisher writes it.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub id: Option<String>,
    pub resources: Vec<String>,
    /// Whether `resources` was written as the one `resource`, for the names of wrong fields.
    pub singular: bool,
    pub name: String,
    pub state: Option<String>,
    pub changed: Option<String>,
    pub payload: Option<Payload>,
}

/// A publish call.
#[derive(Clone, Debug, Default)]
pub struct PublishRequest {
    pub events: Vec<Draft>,
    /// Whether the events stood in a list, for the names of wrong fields.
    pub listed: bool,
    pub idempotency_key: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the idempotency key was used for other content")]
    KeyConflict,
    #[error("the event id in {field} was used for other content")]
    IdConflict { field: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Appends events for good. One bad event and nothing is stored.
    pub async fn publish(
        &self,
        principal: &Principal,
        request: PublishRequest,
    ) -> Result<Vec<Placed>, PublishError> {
        principal.require(Scope::Events)?;
        if request.events.is_empty() {
            return Err(FieldError::new("events", Invalid::Rule("not be empty")).into());
        }
        if request.events.len() > EVENTS_MAX {
            return Err(FieldError::new("events", Invalid::TooMany { max: EVENTS_MAX }).into());
        }
        let listed = request.listed;
        let idempotency = request.idempotency_key.map(|key| {
            let checked = check_key(&key).in_field("Idempotency-Key");
            checked.map(|()| (key, content_of(&request.events)))
        });
        let prefix = |at: usize| if listed { format!("events[{at}].") } else { String::new() };
        let mut events: Vec<NewEvent> = Vec::with_capacity(request.events.len());
        let singular: Vec<bool> = request.events.iter().map(|draft| draft.singular).collect();
        for (at, draft) in request.events.into_iter().enumerate() {
            let event = self.check(draft, principal);
            events.push(event.map_err(|error| FieldError { field: prefix(at) + &error.field, ..error })?);
        }
        let paths: Vec<ResourcePath> = events.iter().flat_map(|event| event.resources.clone()).collect();
        let undeclared = self.undeclared(&principal.project, &paths).await?;
        for (at, (event, singular)) in events.iter().zip(singular).enumerate() {
            if let Some(missing) = event.resources.iter().position(|path| undeclared.contains(path)) {
                return Err(FieldError::new(prefix(at) + &field_of(missing, singular), UNDECLARED).into());
            }
        }
        let publish = Publish {
            project: principal.project.clone(),
            events,
            idempotency: idempotency.transpose()?,
            now: self.now(),
        };
        match self.store.publish(publish).await? {
            PublishOutcome::Accepted(placed) => Ok(placed),
            PublishOutcome::KeyConflict => Err(PublishError::KeyConflict),
            PublishOutcome::IdConflict { event } => {
                Err(PublishError::IdConflict { field: prefix(event) + "id" })
            }
        }
    }

    fn check(&self, draft: Draft, principal: &Principal) -> Result<NewEvent, FieldError> {
        event::check_name(&draft.name).in_field("name")?;
        if let Some(state) = &draft.state {
            event::check_state(state).in_field("state")?;
        }
        if let Some(changed) = &draft.changed {
            header_safe(changed, CHANGED_BYTES_MAX).in_field("changed")?;
        }
        if let Some(payload) = &draft.payload {
            if payload.bytes.len() > PAYLOAD_BYTES_MAX {
                return Err(FieldError::new(
                    "data",
                    Invalid::TooLong { max: PAYLOAD_BYTES_MAX, unit: "bytes" },
                ));
            }
            let media = &payload.content_type;
            header_safe(media, CONTENT_TYPE_BYTES_MAX).in_field("contentType")?;
            if media.is_empty() || !media.contains('/') {
                return Err(FieldError::new(
                    "contentType",
                    Invalid::Rule("be a media type such as application/json"),
                ));
            }
        }
        let fingerprint = draft.id.is_some().then(|| content_of(std::slice::from_ref(&draft)));
        let id = match draft.id {
            Some(id) => {
                event::check_given_id(&id).in_field("id")?;
                id
            }
            None => id::event_id(self.now(), self.entropy.bytes()),
        };
        Ok(NewEvent {
            id,
            given: fingerprint,
            resources: check_resources(&draft.resources, draft.singular, principal)?,
            name: draft.name,
            state: draft.state.unwrap_or_else(|| STATE_DEFAULT.to_owned()),
            changed: draft.changed,
            payload: draft.payload,
        })
    }
}

fn field_of(at: usize, singular: bool) -> String {
    if singular { "resource".to_owned() } else { format!("resources[{at}]") }
}

fn check_resources(
    written: &[String],
    singular: bool,
    principal: &Principal,
) -> Result<Vec<ResourcePath>, FieldError> {
    let field = |at: usize| field_of(at, singular);
    if written.is_empty() {
        return Err(FieldError::new("resources", Invalid::Rule("not be empty")));
    }
    if written.len() > RESOURCES_MAX {
        return Err(FieldError::new("resources", Invalid::TooMany { max: RESOURCES_MAX }));
    }
    let mut paths: Vec<ResourcePath> = Vec::with_capacity(written.len());
    for (at, written) in written.iter().enumerate() {
        let path = ResourcePath::parse_for(written, &principal.subject).in_field(&field(at))?;
        if path.is_own() {
            return Err(FieldError::new(
                field(at),
                Invalid::Rule("not lie under watchpost/, which the server publishes"),
            ));
        }
        if paths.contains(&path) {
            return Err(FieldError::new(field(at), Invalid::Rule("be named once")));
        }
        paths.push(path);
    }
    Ok(paths)
}

fn check_key(key: &str) -> Result<(), Invalid> {
    header_safe(key, IDEMPOTENCY_KEY_BYTES_MAX)?;
    if key.is_empty() { Err(Invalid::Rule("not be empty")) } else { Ok(()) }
}

/// A fingerprint of everything that makes two publishes the same, each part with its length.
fn content_of(drafts: &[Draft]) -> Fingerprint {
    fn part(hash: &mut Sha256, bytes: Option<&[u8]>) {
        // Absent and empty differ.
        hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len().try_into().unwrap_or(u64::MAX)).to_be_bytes());
        hash.update(bytes.unwrap_or_default());
    }
    let mut hash = Sha256::new();
    for draft in drafts {
        hash.update((draft.resources.len().try_into().unwrap_or(u64::MAX)).to_be_bytes());
        for resource in &draft.resources {
            part(&mut hash, Some(resource.as_bytes()));
        }
        part(&mut hash, draft.id.as_deref().map(str::as_bytes));
        part(&mut hash, Some(draft.name.as_bytes()));
        part(&mut hash, Some(draft.state.as_deref().unwrap_or(STATE_DEFAULT).as_bytes()));
        part(&mut hash, draft.changed.as_deref().map(str::as_bytes));
        part(&mut hash, draft.payload.as_ref().map(|payload| payload.content_type.as_bytes()));
        part(&mut hash, draft.payload.as_ref().map(|payload| payload.bytes.as_ref()));
    }
    hash.finalize().into()
}
