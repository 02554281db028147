//! An external issuer and its keys. They are fetched when they are first needed, kept while they are fresh, and asked
//! for again when a token names a key that is not known, at most once per interval whoever sends such tokens. While the
//! issuer is down its last keys go on being good.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::SharedClock,
    domain::{
        issuer::{Bearer, ClaimsError, IssuerRules},
        time::Timestamp,
    },
    outbound::{FetchError, Fetcher},
    signing::{ExternalError, KeySet, KeySetError},
};

/// A key set is some kilobytes.
pub const KEY_SET_BYTES_MAX: usize = 256 * 1_024;
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// How soon a key that the issuer has taken back is no longer taken here.
const FRESH: Duration = Duration::from_mins(5);
/// How long the keys of an issuer that does not answer are believed.
const STALE_MAX: Duration = Duration::from_hours(24);
/// The issuer is asked no more often than this.
const FETCH_EVERY: Duration = Duration::from_secs(30);

pub struct Issuer {
    rules: IssuerRules,
    fetcher: Fetcher,
    clock: SharedClock,
    state: Mutex<State>,
    /// Held by whoever asks the issuer.
    fetching: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.rules.issuer)
    }
}

/// Times are of the monotonic clock.
#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<(Arc<KeySet>, Duration)>,
    asked_at: Option<Duration>,
    /// Whether the last answer was of use.
    answers: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    #[error(transparent)]
    Token(#[from] ExternalError),
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Its keys are not to be had.
    #[error("the issuer's keys cannot be fetched")]
    Unavailable,
}

#[derive(Debug, thiserror::Error)]
enum FetchProblem {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the issuer answered {0}")]
    Status(u16),
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

impl Issuer {
    pub fn new(rules: IssuerRules, fetcher: Fetcher, clock: SharedClock) -> Self {
        Self { rules, fetcher, clock, state: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// The bearer of a token that the issuer has made.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Bearer, IssuerError> {
        // What is no token needs no keys: others may know it while the issuer is down.
        KeySet::check_form(token)?;
        let claims = match self.keys().await?.verify(token) {
            Err(ExternalError::UnknownKey) => {
                // It may have been made since.
                self.fetch(Waiting::Yes).await;
                let state = self.state();
                match self.usable(&state).map(|keys| keys.verify(token)) {
                    Some(Err(ExternalError::UnknownKey)) | None if !state.answers => {
                        return Err(IssuerError::Unavailable);
                    }
                    Some(outcome) => outcome?,
                    None => return Err(IssuerError::Unavailable),
                }
            }
            outcome => outcome?,
        };
        Ok(self.rules.read(&claims, now)?)
    }

    async fn keys(&self) -> Result<Arc<KeySet>, IssuerError> {
        let state = self.state();
        let now = self.now();
        let age = state.keys.as_ref().map(|(_, since)| now.saturating_sub(*since));
        match age {
            Some(age) if age < FRESH => {}
            // Those who come while somebody asks go on with what there is.
            Some(age) if age < STALE_MAX => self.fetch(Waiting::No).await,
            _ => self.fetch(Waiting::Yes).await,
        }
        self.usable(&self.state()).ok_or(IssuerError::Unavailable)
    }

    fn usable(&self, state: &State) -> Option<Arc<KeySet>> {
        let (keys, since) = state.keys.as_ref()?;
        (self.now().saturating_sub(*since) < STALE_MAX).then(|| Arc::clone(keys))
    }

    /// Asks the issuer, unless that was done a moment ago.
    async fn fetch(&self, waiting: Waiting) {
        let _asking = match waiting {
            Waiting::Yes => self.fetching.lock().await,
            Waiting::No => match self.fetching.try_lock() {
                Ok(asking) => asking,
                Err(_) => return,
            },
        };
        let now = self.now();
        if self.state().asked_at.is_some_and(|asked| now.saturating_sub(asked) < FETCH_EVERY) {
            return;
        }
        self.change(|state| state.asked_at = Some(now));
        match self.ask().await {
            Ok(keys) => {
                if keys.is_empty() {
                    tracing::warn!(
                        "the issuer publishes no usable key; its tokens are refused until it does"
                    );
                } else {
                    tracing::info!(keys = ?keys, "the issuer's keys were fetched");
                }
                self.change(|state| {
                    state.keys = Some((Arc::new(keys), now));
                    state.answers = true;
                });
            }
            Err(problem) => {
                tracing::warn!(error = %problem, "the issuer's keys could not be fetched");
                self.change(|state| state.answers = false);
            }
        }
    }

    async fn ask(&self) -> Result<KeySet, FetchProblem> {
        let answer = self.fetcher.get().await?;
        if answer.status != 200 {
            return Err(FetchProblem::Status(answer.status));
        }
        Ok(KeySet::parse(&answer.body)?)
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether to wait for somebody who is asking already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Yes,
    No,
}
