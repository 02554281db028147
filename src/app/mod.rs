//! Use cases, one noun per file, free of HTTP: what a caller may do and what it means. Called by `web`, `jobs` and
//! `cli`; errors are typed here and worded by each face.

pub mod access;
pub mod api_keys;
pub mod attempts;
pub mod auth;
pub mod authorizer;
pub mod channels;
pub mod claims;
pub mod detail;
pub mod erasure;
pub mod expiry;
pub mod fates;
pub mod feed;
pub mod issuer;
pub mod options;
mod pause;
pub mod publish;
pub mod reminders;
pub mod renewal;
pub mod replay;
pub mod resources;
pub mod retention;
pub mod rewrap;
mod sealing;
pub mod secrets;
pub mod signing_keys;
pub mod stop_all;

use std::sync::Arc;

use url::Url;

pub use self::{
    access::{AccessError, Callers, Principal, Scope},
    retention::Retention,
};
use crate::{
    clock::SharedClock,
    domain::{expiry::Lifetimes, time::Timestamp},
    entropy::SharedEntropy,
    outbound::EgressPolicy,
    signing::Keys,
    store::{Reminding, Store},
    wake::Bells,
};

/// Everything that use cases work with.
#[derive(Clone)]
pub struct App {
    pub store: Store,
    pub clock: SharedClock,
    pub entropy: SharedEntropy,
    pub bells: Bells,
    pub keys: Arc<Keys>,
    pub policy: EgressPolicy,
    pub settings: Arc<Settings>,
    pub callers: Arc<Callers>,
}

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    pub lifetimes: Lifetimes,
    pub retention: Retention,
    /// Only declared resources exist.
    pub declared_only: bool,
    /// Base of the claim URLs.
    pub public_url: Url,
    /// Base of resource URIs: the team's own API host.
    pub api_url: Url,
    pub header_prefix: String,
    /// When receivers are reminded of claims.
    pub reminding: Reminding,
    /// Every caller is `default` with all scopes: only while listening on loopback.
    pub auth_off: bool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("store", &self.store)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl App {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
