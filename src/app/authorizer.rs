//! Whoever authorizes: a service of the operator's that says who the bearer of a credential is, and whether they may
//! watch. Asked only about callers whose credential does not say it itself, and its answers are kept for a minute at
//! most, under keys from which no credential can be read. The same question is asked once, however many wait for it.

mod answers;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

use self::answers::{Answers, Key};
use super::access::AccessError;
use crate::{
    clock::SharedClock,
    domain::resource::ResourcePath,
    outbound::Fetcher,
    signing::{TOKEN_BYTES_MAX, keyed_hash},
};

/// Silence for longer is no answer.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(2);
pub const ANSWER_BYTES_MAX: usize = 16 * 1_024;
/// However long the service says: whoever lost their access keeps it no longer than this.
const KEPT_MAX: Duration = Duration::from_mins(1);
/// So that a refused client that insists is no load.
const REFUSAL_KEPT: Duration = Duration::from_secs(5);

/// What a caller is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Anything: who is this?
    Identify,
    /// Open a channel.
    Watch,
    Renew,
    /// Turn a channel elsewhere, or command it.
    Change,
    /// Read the feed.
    Read,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Identify => "identify",
            Self::Watch => "watch",
            Self::Renew => "renew",
            Self::Change => "change",
            Self::Read => "read",
        }
    }
}

/// A caller's credential, which is shown to nobody but the service.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

impl Credential {
    /// None for what cannot stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let fits = text.len() <= TOKEN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && !text.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// What a caller is known as, where they are known, and what they name.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    pub credential: &'q Credential,
    pub caller: Option<(&'q str, &'q str)>,
    pub action: Action,
    pub resource: Option<&'q ResourcePath>,
}

/// What the service may say of a caller besides yes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Granted {
    pub project: Option<String>,
    pub subject: Option<String>,
    pub scopes: Option<Vec<String>>,
    /// Seconds.
    ttl: Option<u64>,
}

type Verdict = Result<Granted, AccessError>;

pub struct Authorizer {
    fetcher: Fetcher,
    clock: SharedClock,
    /// Of this process alone.
    hash_key: [u8; 32],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: Answers,
    /// Questions under way, with the answer once it is there. Never more than callers that wait.
    asking: HashMap<Key, Arc<OnceCell<Verdict>>>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authorizer").field(&self.fetcher).finish()
    }
}

impl Authorizer {
    pub fn new(fetcher: Fetcher, clock: SharedClock, hash_key: [u8; 32]) -> Self {
        Self { fetcher, clock, hash_key, state: Mutex::default() }
    }

    /// What the service says, now or within the last minute.
    pub async fn ask(&self, question: Question<'_>) -> Verdict {
        let key = self.key_of(question);
        let asking = {
            let mut state = self.state();
            if let Some(verdict) = state.answers.known(&key, self.clock.monotonic()) {
                return verdict;
            }
            let answer = Arc::clone(state.asking.entry(key).or_default());
            Asking { authorizer: self, key, answer }
        };
        // Where whoever asks gives up, the next of those who wait asks.
        asking.answer.get_or_init(|| self.send_and_remember(key, question)).await.clone()
    }

    async fn send_and_remember(&self, key: Key, question: Question<'_>) -> Verdict {
        let verdict = self.send(question).await;
        let kept = match &verdict {
            Ok(granted) => granted.ttl.map_or(KEPT_MAX, Duration::from_secs).min(KEPT_MAX),
            Err(AccessError::Unavailable) => Duration::ZERO,
            Err(_) => REFUSAL_KEPT,
        };
        if !kept.is_zero() {
            self.state().answers.remember(key, verdict.clone(), kept, self.clock.monotonic());
        }
        verdict
    }

    async fn send(&self, question: Question<'_>) -> Verdict {
        let mut body = json!({ "action": question.action.as_str() });
        if let Some((project, subject)) = question.caller {
            body["project"] = project.into();
            body["subject"] = subject.into();
        }
        if let Some(resource) = question.resource {
            body["resource"] = resource.as_str().into();
        }
        let authorization = format!("Bearer {}", question.credential.0);
        let answer = self.fetcher.post(&authorization, body.to_string()).await.map_err(|error| {
            tracing::warn!(error = %error, "whoever authorizes did not answer");
            AccessError::Unavailable
        })?;
        match answer.status {
            200 if answer.body.iter().all(u8::is_ascii_whitespace) => Ok(Granted::default()),
            200 => serde_json::from_slice(&answer.body).map_err(|error| {
                tracing::warn!(error = %error, "whoever authorizes did not answer in JSON");
                AccessError::Unavailable
            }),
            401 => Err(AccessError::Invalid),
            403 => Err(AccessError::Resource),
            404 => Err(AccessError::NotThere),
            status => {
                tracing::warn!(status, "whoever authorizes gave no answer that is one");
                Err(AccessError::Unavailable)
            }
        }
    }

    fn key_of(&self, question: Question<'_>) -> Key {
        let (project, subject) = question.caller.unzip();
        let resource = question.resource.map(ResourcePath::as_str);
        let parts = [
            Some(question.credential.0.as_str()),
            project,
            subject,
            Some(question.action.as_str()),
            resource,
        ];
        keyed_hash(&self.hash_key, &parts.map(Option::unwrap_or_default))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those who wait for an answer. The question is over with the first who has it, or with the last who gives up.
struct Asking<'a> {
    authorizer: &'a Authorizer,
    key: Key,
    answer: Arc<OnceCell<Verdict>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.authorizer.state();
        // Let go of while the state is locked, so that whoever is last knows it.
        let answer = std::mem::take(&mut self.answer);
        // Two are left: the map's and this one.
        let is_over = answer.initialized() || Arc::strong_count(&answer) == 2;
        if is_over && state.asking.get(&self.key).is_some_and(|known| Arc::ptr_eq(known, &answer)) {
            state.asking.remove(&self.key);
        }
    }
}
