//! Channels: opened, read, changed, stopped. Both faces come here; what differs between them is in the request.

use super::{
    AccessError, App, Principal, Scope,
    access::QUERY_CREDENTIALS,
    authorizer::Action,
    options::{FixedOptions, OptionsRequest},
};
use crate::{
    domain::{
        channel::{
            self, CatchUp, Channel, ChannelKey, ChannelState, Face, Format, Ordering, SignatureScheme,
        },
        expiry::{Asked, ExpiryError},
        hidden::Hidden,
        id,
        invalid::{FieldError, InField, Invalid},
        resource::ResourcePath,
        secret::RETIRING_MAX,
        time::Timestamp,
    },
    outbound::Refusal,
    signing::SigningSecret,
    store::{
        ChangeOutcome, ChannelChange, ChannelFilter, ChannelView, NewChannel, OpenOutcome, Owner, StoreError,
    },
};

pub const PAGE_MAX: i64 = 200;
/// Every notification carries it in a header, and receivers limit those.
pub const RESOURCE_URI_BYTES_MAX: usize = 4 * 1_024;

/// What a client asks for when it opens a channel.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    pub face: Face,
    /// Chosen by the client; one is made up where the face allows it.
    pub id: Option<String>,
    /// The resource as it was written, and the query that belongs to its URI.
    pub resource: String,
    pub query: Option<String>,
    pub address: String,
    pub token: Option<String>,
    pub expiry: Asked,
    pub format: Format,
    pub payload: Option<bool>,
    pub catch_up: Option<CatchUp>,
    pub signatures: Option<Vec<SignatureScheme>>,
    /// A signing secret that the client brings along.
    pub secret: Option<Hidden>,
    pub ordering: Ordering,
    pub options: OptionsRequest,
}

/// A channel and what its owner sees only once.
#[derive(Debug)]
pub struct Opened {
    pub channel: Channel,
    pub secret: Option<SigningSecret>,
}

/// New values for a channel; `None` leaves a field alone.
#[derive(Clone, Debug, Default)]
pub struct ChangeRequest {
    pub address: Option<String>,
    pub token: Option<Option<String>>,
    pub expiry: Asked,
    /// A new life even where `expiry` asks for nothing in particular.
    pub renews: bool,
    pub payload: Option<bool>,
    pub format: Option<Format>,
    pub catch_up: Option<CatchUp>,
    pub options: OptionsRequest,
}

#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the expiration is not acceptable")]
    Expiry(ExpiryError),
    #[error("{field}: {refusal}")]
    Address { field: &'static str, refusal: Refusal },
    #[error(
        "the channel id {0} was used before, and ids stay taken for ever: choose another, or leave it out"
    )]
    IdTaken(String),
    /// Only declared resources exist, and this one is none.
    #[error("there is no such resource")]
    Undeclared,
    #[error("there is no such channel")]
    NotFound,
    #[error("the channel belongs to another subject")]
    NotOwner,
    #[error("the channel has ended")]
    Ended,
    #[error("the channel is paused: nothing leaves it until it is resumed")]
    Paused,
    #[error("the channel is signed by no secret: there is none to replace")]
    Unsigned,
    #[error(
        "{RETIRING_MAX} earlier secrets still sign, the first of them until {}: wait, or shorten the overlap",
        first_gone_at.to_rfc3339()
    )]
    TooManySecrets { first_gone_at: Timestamp },
    /// Retention took what was asked for.
    #[error(
        "what was asked for is kept no longer: the channel's log begins at message number {earliest_number}"
    )]
    Lost { earliest_number: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Opens a channel. Its sync is on its way as soon as this returns, or before.
    pub async fn open_channel(
        &self,
        principal: &Principal,
        request: OpenRequest,
    ) -> Result<Opened, ChannelError> {
        principal.require(Scope::Channels)?;
        let now = self.now();
        let path = ResourcePath::parse_for(&request.resource, &principal.subject).in_field("resource")?;
        self.require_resource(principal, Action::Watch, &path).await?;
        if !self.undeclared(&principal.project, std::slice::from_ref(&path)).await?.is_empty() {
            return Err(ChannelError::Undeclared);
        }
        let uid = id::channel_uid(now, self.entropy.bytes());
        let id = request.id.clone().unwrap_or_else(|| uid.clone());
        channel::check_id(&id).in_field("id")?;
        let token = self.seal_token(request.token.as_deref(), &principal.project, &uid)?;
        let fixed = FixedOptions {
            ordering: request.ordering,
            signatures: schemes(&request).iter().map(|scheme| scheme.as_str().to_owned()).collect(),
        };
        let options = self.with_options(fixed.into(), request.options.clone(), &principal.project, &uid)?;
        let address = self.address(&request.address, None, "address")?;
        let expires_at =
            self.settings.lifetimes.resolve(request.expiry, now).map_err(ChannelError::Expiry)?;
        let secret = self.secret(&request)?;
        let sealed_secret = secret.as_ref().map(|secret| self.seal_secret(&principal.project, &uid, secret));
        let payload = request.payload.unwrap_or_else(|| carries_payload(request.format, &path));
        let new = NewChannel {
            uid,
            project: principal.project.clone(),
            id: id.clone(),
            subject: principal.subject.clone(),
            resource_uri: self.resource_uri(&request.resource, request.query.as_deref())?,
            resource: path,
            face: request.face,
            address,
            token,
            format: request.format,
            payload,
            catch_up: request.catch_up.unwrap_or(if payload { CatchUp::All } else { CatchUp::Latest }),
            expires_at,
            options,
            sealed_secret: sealed_secret.transpose()?,
        };
        match self.store.open_channel(new, now).await? {
            OpenOutcome::IdTaken => Err(ChannelError::IdTaken(id)),
            OpenOutcome::Opened(channel) => {
                self.bells.changed(vec![channel.key]).await;
                Ok(Opened { channel: *channel, secret })
            }
        }
    }

    /// A channel that the caller may see.
    pub async fn channel(&self, principal: &Principal, id_or_uid: &str) -> Result<ChannelView, ChannelError> {
        principal.require(Scope::Channels)?;
        // What no channel can be called is not looked up: not every store takes every text.
        channel::check_id(id_or_uid).map_err(|_| ChannelError::NotFound)?;
        let found = self.store.channel(principal.owner(), id_or_uid.to_owned()).await?;
        found.ok_or(ChannelError::NotFound)
    }

    /// A page of channels, newest first.
    pub async fn list_channels(
        &self,
        principal: &Principal,
        filter: ChannelFilter,
    ) -> Result<Vec<ChannelView>, ChannelError> {
        principal.require(Scope::Channels)?;
        Ok(self.store.channels(principal.owner(), filter).await?)
    }

    /// Changes a channel. Once this returns, no request leaves that knows the old values.
    pub async fn change_channel(
        &self,
        principal: &Principal,
        id_or_uid: &str,
        request: ChangeRequest,
    ) -> Result<ChannelView, ChannelError> {
        let current = self.channel(principal, id_or_uid).await?.channel;
        let expires = request.renews || request.expiry != Asked::default();
        let leads_on = request.address.is_none() && request.options.lifecycle_address.is_none();
        let action = if expires && leads_on { Action::Renew } else { Action::Change };
        // Renewing or turning a channel elsewhere is watching on.
        self.require_resource(principal, action, &current.resource_path).await?;
        let (app, now) = (self.clone(), self.now());
        let decide = move |current: &Channel| app.decide_change(current, request.clone(), now);
        match self.store.change_channel(current.key, decide, now).await? {
            ChangeOutcome::Changed => self.tell_change(current.key).await,
            ChangeOutcome::Ended => Err(ChannelError::Ended),
            ChangeOutcome::Refused(error) => Err(error),
        }
    }

    /// What a request makes of the channel as it is now.
    fn decide_change(
        &self,
        current: &Channel,
        request: ChangeRequest,
        now: Timestamp,
    ) -> Result<ChannelChange, ChannelError> {
        let seal = |token: Option<String>| self.seal_token(token.as_deref(), &current.project, &current.uid);
        let token = request.token.map(seal).transpose()?;
        let address = |given: String| self.address(&given, Some(&current.address), "address");
        let address = request.address.map(address).transpose()?;
        let leads_to = address.as_deref().unwrap_or(&current.address);
        let present = Self::options_at(current, leads_to, &request.options)?;
        let options = self.with_options(present, request.options, &current.project, &current.uid)?;
        let expires_at = if request.expiry == Asked::default() && !request.renews {
            None
        } else {
            Some(self.settings.lifetimes.resolve(request.expiry, now).map_err(ChannelError::Expiry)?)
        };
        Ok(ChannelChange {
            address,
            token,
            format: request.format,
            payload: request.payload,
            catch_up: request.catch_up,
            expires_at,
            options: (options != current.options).then_some(options),
        })
    }

    /// Tells the engine that a channel was changed, and reads what it has become.
    pub(super) async fn tell_change(&self, key: ChannelKey) -> Result<ChannelView, ChannelError> {
        self.bells.changed(vec![key]).await;
        // By its key: somebody may have chosen this channel's uid as another one's id.
        self.store.channel_by_key(key).await?.ok_or(ChannelError::NotFound)
    }

    /// Stops a channel that the caller may see. Stopping twice is fine.
    pub async fn stop_channel(&self, principal: &Principal, id_or_uid: &str) -> Result<(), ChannelError> {
        let found = self.channel(principal, id_or_uid).await?;
        self.stop(found.channel.key).await?;
        Ok(())
    }

    /// Stops a channel as Google does: by id and resource id together, and only by its owner.
    pub async fn stop_channel_of_resource(
        &self,
        principal: &Principal,
        id: &str,
        resource_id: &str,
    ) -> Result<(), ChannelError> {
        principal.require(Scope::Channels)?;
        channel::check_id(id).map_err(|_| ChannelError::NotFound)?;
        let whole_project = Owner { project: principal.project.clone(), subject: None };
        let found =
            self.store.channel(whole_project, id.to_owned()).await?.ok_or(ChannelError::NotFound)?.channel;
        if found.id != id || found.resource_id != resource_id {
            return Err(ChannelError::NotFound);
        }
        if found.subject != principal.subject && !principal.is_admin() {
            return Err(ChannelError::NotOwner);
        }
        if self.stop(found.key).await? { Ok(()) } else { Err(ChannelError::NotFound) }
    }

    async fn stop(&self, key: ChannelKey) -> Result<bool, StoreError> {
        let stopped = self.store.end_channel(key, ChannelState::Stopped, self.now()).await?;
        if stopped {
            self.bells.changed(vec![key]).await;
        }
        Ok(stopped)
    }

    /// The address in its stored form. The refusal's reason is for the log: strangers learn only that it is one.
    pub(super) fn judge(&self, address: &str, field: &'static str) -> Result<String, ChannelError> {
        self.policy.judge(address).map(|address| address.as_str().to_owned()).map_err(|refusal| {
            tracing::info!(field, reason = ?refusal, setting = self.policy.opened_by(address, refusal), "an address was refused");
            ChannelError::Address { field, refusal }
        })
    }

    fn secret(&self, request: &OpenRequest) -> Result<Option<SigningSecret>, FieldError> {
        if !schemes(request).contains(&SignatureScheme::V1) {
            if request.secret.is_some() {
                return Err(FieldError::new("secret", Invalid::Rule("come with signatures that use it")));
            }
            return Ok(None);
        }
        match &request.secret {
            Some(text) => SigningSecret::parse(text.reveal()).in_field("secret").map(Some),
            None => Ok(Some(SigningSecret::from_bytes(self.entropy.bytes::<32>().to_vec()))),
        }
    }

    /// The watched URL, as the client wrote it, on the team's own API host. Credentials in the query stay out.
    fn resource_uri(&self, written: &str, query: Option<&str>) -> Result<String, FieldError> {
        let base = self.settings.api_url.as_str().trim_end_matches('/');
        let written = ascii_uri(written);
        let query: Vec<String> = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !is_credential(pair))
            .map(ascii_uri)
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("{base}/{written}{mark}{}", query.join("&"));
        if uri.len() > RESOURCE_URI_BYTES_MAX {
            let too_long =
                Invalid::TooLong { max: RESOURCE_URI_BYTES_MAX, unit: "characters with its query" };
            return Err(FieldError::new("resourceUri", too_long));
        }
        Ok(uri)
    }
}

/// `/v1` channels are signed unless they say otherwise, Google's are not.
fn schemes(request: &OpenRequest) -> Vec<SignatureScheme> {
    request.signatures.clone().unwrap_or_else(|| match request.face {
        Face::Native => vec![SignatureScheme::V1],
        Face::Google => Vec::new(),
    })
}

/// Directory and Reports notifications carry a body, Calendar's and Drive's do not.
fn carries_payload(format: Format, path: &ResourcePath) -> bool {
    let mut segments = path.segments();
    let api = (segments.next(), segments.next());
    format != Format::Google || matches!(api, (Some("admin"), Some("directory" | "reports")))
}

/// Keeps a written URI part as it is, but for what a header cannot carry.
fn ascii_uri(part: &str) -> String {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\');
    utf8_percent_encode(part, UNSAFE).to_string()
}

fn is_credential(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default().replace('+', " ");
    let name = percent_encoding::percent_decode_str(&name).decode_utf8_lossy();
    QUERY_CREDENTIALS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}
