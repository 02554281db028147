//! Asks a receiver whether it wants notifications, before the first one goes to it. Called by each delivery right
//! before its request, where the project demands it; the sync is therefore what is held back.
//!
//! Consent is one address's to one project. It is remembered in memory alone: after a restart an address is asked once
//! more, which costs a request and needs no state that could be wrong. First CloudEvents' question is put, then a
//! random text is sent that has to come back. A receiver that fails to agree has failed the attempt.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use tokio::time::timeout;

use super::Context;
use crate::{
    domain::{
        consent::{self, Verify},
        outcome::{self, Verdict},
    },
    outbound::{Address, Answer, Phase, Request, SendError},
};

/// Addresses whose consent is remembered; beyond, all are asked again.
const GIVEN_MAX: usize = 100_000;
/// For both questions together.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");

type Key = (String, String);

/// What a receiver makes of being asked.
#[derive(Debug)]
pub enum Consent {
    Given,
    /// Somebody else is asking the same: its answer counts.
    Asking,
    /// An answer that says more than no: that it is gone, or overloaded.
    Answered(Answer),
    Failed(SendError),
}

/// Who has agreed, and who is being asked.
#[derive(Debug, Default)]
pub struct Consents {
    given: Mutex<HashSet<Key>>,
    asking: Mutex<HashSet<Key>>,
}

impl Consents {
    pub async fn ask(
        &self,
        context: &Context,
        project: &str,
        address: &Address,
        own_headers: Option<&HeaderMap>,
    ) -> Consent {
        if context.settings.verification.of(project) == Verify::None {
            return Consent::Given;
        }
        let key = (project.to_owned(), address.as_str().to_owned());
        if lock(&self.given).contains(&key) {
            return Consent::Given;
        }
        if !lock(&self.asking).insert(key.clone()) {
            return Consent::Asking;
        }
        let asking = Asking { consents: self, key };
        let asked = timeout(CHALLENGE_TIMEOUT, challenge(context, address, own_headers)).await;
        let consent = asked.unwrap_or(Consent::Failed(SendError::Timeout { phase: Phase::Answer }));
        if matches!(consent, Consent::Given) {
            let mut given = lock(&self.given);
            if given.len() >= GIVEN_MAX {
                given.clear();
            }
            given.insert(asking.key.clone());
        }
        consent
    }
}

/// Ends with the question, also where nobody waits for its answer any more.
struct Asking<'c> {
    consents: &'c Consents,
    key: Key,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        lock(&self.consents.asking).remove(&self.key);
    }
}

async fn challenge(context: &Context, address: &Address, own_headers: Option<&HeaderMap>) -> Consent {
    let origin = context.settings.public_url.host_str().unwrap_or_default();
    let mut headers = own_headers.cloned().unwrap_or_default();
    if let Ok(origin) = HeaderValue::from_str(origin) {
        headers.insert(REQUEST_ORIGIN, origin);
    }
    let question = Request { address, headers, body: Bytes::new() };
    match context.sender.ask(Method::OPTIONS, question, context.clock.as_ref()).await {
        Ok(answer) if consent::is_allowed(origin, answer.status, answer.allowed_origin.as_deref()) => {
            return Consent::Given;
        }
        Ok(_) => {}
        Err(error) => return Consent::Failed(error),
    }
    let nonce = format!("{:032x}", u128::from_be_bytes(context.entropy.bytes()));
    let mut headers = own_headers.cloned().unwrap_or_default();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = format!(r#"{{"type":"watchpost.channel.challenge","challenge":"{nonce}"}}"#);
    let question = Request { address, headers, body: body.into() };
    match context.sender.ask(Method::POST, question, context.clock.as_ref()).await {
        Ok(answer) if consent::is_repeated(&nonce, answer.status, &answer.body_excerpt) => Consent::Given,
        Ok(answer) => match outcome::of_status(answer.status) {
            Verdict::Gone | Verdict::Overloaded => Consent::Answered(answer),
            _ => Consent::Failed(SendError::NoConsent),
        },
        Err(error) => Consent::Failed(error),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
