//! API keys: made by a project's admins, shown once, revoked at once. For back ends that cannot make tokens, and for
//! people who want a credential without an end.

use std::{collections::BTreeSet, time::Duration};

use super::{
    AccessError, App, Principal, Scope,
    access::{NAME_BYTES_MAX, is_name},
};
use crate::{
    domain::{
        id,
        invalid::{FieldError, Invalid},
        time::Timestamp,
    },
    signing::{ApiKeyText, api_key_hash},
    store::{ApiKey, NewApiKey, StoreError},
};

pub const PAGE_MAX: i64 = 200;
/// Entries of `resources`, as in tokens: each is held against every resource that the bearer names.
pub const PATTERNS_MAX: usize = 64;
pub const PATTERN_BYTES_MAX: usize = 1_024;
/// A hundred years: what is much longer has no date that could be shown.
const TTL_SECONDS_MAX: u64 = 100 * 365 * 24 * 3_600;
/// How coarse `lastUsedAt` is, so that a key in use is written once an hour and not with every request.
const USE_TOLD_EVERY: Duration = Duration::from_hours(1);
/// What a key may do; nobody outside can make an operator.
pub const SCOPES: [Scope; 3] = [Scope::Channels, Scope::Events, Scope::Admin];

#[derive(Clone, Debug)]
pub struct KeyRequest {
    pub name: Option<String>,
    pub subject: String,
    /// Words of [`SCOPES`].
    pub scopes: Vec<String>,
    pub resources: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
    pub ttl_seconds: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("there is no such key")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl App {
    /// Makes a key of the caller's project, and its text, which is kept nowhere.
    pub async fn create_key(
        &self,
        principal: &Principal,
        request: KeyRequest,
    ) -> Result<(ApiKey, ApiKeyText), KeyError> {
        principal.require(Scope::Admin)?;
        let now = self.now();
        check(&request)?;
        let scopes = read_scopes(&request.scopes)?;
        let text = ApiKeyText::new(self.entropy.bytes());
        let hash = api_key_hash(text.reveal()).ok_or(StoreError::Unwritable("hash"))?;
        let new = NewApiKey {
            project: principal.project.clone(),
            id: id::api_key_id(now, self.entropy.bytes()),
            scopes: scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "),
            expires_at: expiry(&request, now)?,
            name: request.name,
            subject: request.subject,
            resources: request.resources,
            hash,
        };
        Ok((self.store.add_api_key(new, now).await?, text))
    }

    /// A page of the project's keys, newest first.
    pub async fn list_keys(
        &self,
        principal: &Principal,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<ApiKey>, KeyError> {
        principal.require(Scope::Admin)?;
        Ok(self.store.api_keys(&principal.project, before, limit).await?)
    }

    /// Revokes a key: the next request with it is refused, on every node.
    pub async fn revoke_key(&self, principal: &Principal, id: &str) -> Result<(), KeyError> {
        principal.require(Scope::Admin)?;
        // What no key can be called is not looked up: not every store takes every text.
        let is_id = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let revoked = is_id && self.store.delete_api_key(&principal.project, id).await?;
        if revoked { Ok(()) } else { Err(KeyError::NotFound) }
    }

    pub(super) async fn principal_of_key(&self, hash: [u8; 32]) -> Result<Principal, AccessError> {
        let now = self.now();
        let key = self.store.api_key_by_hash(hash, now).await.map_err(|error| {
            tracing::warn!(error = %error, "an API key could not be looked up");
            AccessError::Unavailable
        })?;
        let key = key.ok_or(AccessError::Invalid)?;
        if key.last_used_at.is_none_or(|used| used.plus(USE_TOLD_EVERY) <= now) {
            // Of use to people alone: nobody is kept out because it could not be written.
            if let Err(error) = self.store.use_api_key(&key.project, key.row, now).await {
                tracing::warn!(error = %error, "the use of an API key could not be remembered");
            }
        }
        let scopes = key.scopes.split_ascii_whitespace().filter_map(Scope::parse);
        let scopes: BTreeSet<Scope> = scopes.filter(|scope| *scope != Scope::Operator).collect();
        Ok(Principal::new(key.project, key.subject, scopes, key.resources.as_deref()))
    }
}

fn check(request: &KeyRequest) -> Result<(), FieldError> {
    let name_rule = |field: &str, text: &str| {
        if is_name(text) && !text.trim().is_empty() {
            return Ok(());
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(FieldError::new(field, Invalid::TooLong { max: NAME_BYTES_MAX, unit: "bytes" }));
        }
        Err(FieldError::new(field, Invalid::Rule("not be empty or hold control characters")))
    };
    name_rule("subject", &request.subject)?;
    if let Some(name) = &request.name {
        name_rule("name", name)?;
    }
    let patterns = request.resources.as_deref().unwrap_or_default();
    if patterns.len() > PATTERNS_MAX {
        return Err(FieldError::new("resources", Invalid::TooMany { max: PATTERNS_MAX }));
    }
    for (at, pattern) in patterns.iter().enumerate() {
        let field = format!("resources[{at}]");
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(FieldError::new(field, Invalid::TooLong { max: PATTERN_BYTES_MAX, unit: "bytes" }));
        }
        if pattern.is_empty() || pattern.chars().any(char::is_control) {
            return Err(FieldError::new(field, Invalid::Rule("be a pattern of resources")));
        }
    }
    Ok(())
}

fn read_scopes(words: &[String]) -> Result<BTreeSet<Scope>, FieldError> {
    let mut scopes = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        let scope = SCOPES.into_iter().find(|scope| scope.as_str() == word);
        let unknown = || FieldError::new(format!("scopes[{at}]"), Invalid::Type("channels, events or admin"));
        scopes.insert(scope.ok_or_else(unknown)?);
    }
    if scopes.is_empty() {
        return Err(FieldError::new("scopes", Invalid::Missing));
    }
    Ok(scopes)
}

/// Without either a key lives until it is revoked.
fn expiry(request: &KeyRequest, now: Timestamp) -> Result<Option<Timestamp>, FieldError> {
    let future = Invalid::Rule("lie in the future");
    match (request.expires_at, request.ttl_seconds) {
        (Some(_), Some(_)) => Err(FieldError::new("ttlSeconds", Invalid::Rule("not stand beside expiresAt"))),
        (Some(at), None) if at <= now => Err(FieldError::new("expiresAt", future)),
        (at, None) => Ok(at),
        (None, Some(seconds)) => match u64::try_from(seconds) {
            Ok(seconds @ 1..=TTL_SECONDS_MAX) => Ok(Some(now.plus(Duration::from_secs(seconds)))),
            _ => Err(FieldError::new("ttlSeconds", Invalid::Rule("be between 1 second and 100 years"))),
        },
    }
}
