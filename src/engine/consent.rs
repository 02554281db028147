//! Asks a receiver whether it wants notifications, before the first one goes to it. Called by each delivery right
//! before its request, where the project demands it; the sync is therefore what is held back.
//!
//! A challenge is up to two questions: CloudEvents' own, then a random text that has to come back. Each is the one
//! request of its slot, so it waits for its destination's pace as a notification does. A receiver that fails to agree
//! has failed the attempt; one that has been challenged too often is left alone, which is nobody's failure.
//!
//! Consent is one address's to one project. It is remembered in memory alone: after a restart an address is asked once
//! more, which costs a request and needs no state that could be wrong.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use tokio::time::timeout;

use super::{
    Context,
    challenges::{Challenges, Wait},
};
use crate::{
    domain::{
        consent::{self, Verify},
        outcome::{self, Verdict},
    },
    outbound::{Address, Answer, Destination, Phase, Request, SendError},
};

/// Addresses that are remembered for having agreed, and for the second question; beyond, all are asked again.
const REMEMBERED_MAX: usize = 100_000;
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");

type Key = (String, String);

/// Whether the receiver wants to be sent to.
#[derive(Debug)]
pub enum Consent {
    Given,
    /// A question was put, and what comes next is another request.
    Asked {
        reached: Option<Destination>,
    },
    /// Somebody else is asking, whose answer is waited for.
    Asking,
    /// The host has been challenged often enough for this long.
    LeftAlone(Duration),
    Refused {
        reached: Option<Destination>,
    },
    /// An answer that says more than no: that it is gone, or overloaded.
    Answered(Box<Answer>),
    Failed(SendError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// CloudEvents': is our origin allowed to send?
    Origin,
    /// Our own: does this text come back?
    Nonce,
}

/// Who has agreed, and who is being asked.
#[derive(Debug, Default)]
pub struct Consents(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    given: HashSet<Key>,
    asking: HashSet<Key>,
    /// Who did not say yes to the first question.
    half_asked: HashSet<Key>,
    challenges: Challenges,
}

impl Consents {
    /// Puts at most one question.
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
        let host = address.url().host_str().unwrap_or_default();
        let question = match self.state().next_question(&key, host, context.clock.monotonic()) {
            Ok(question) => question,
            Err(consent) => return consent,
        };
        let asking = Asking { consents: self, key };
        let asked = timeout(QUESTION_TIMEOUT, put(question, context, address, own_headers)).await;
        let answered = asked.unwrap_or(Err(SendError::Timeout { phase: Phase::Answer }));
        self.state().conclude(question, answered, &asking.key, host)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is to be asked now, or why nothing is.
    fn next_question(&mut self, key: &Key, host: &str, now: Duration) -> Result<Question, Consent> {
        if self.given.contains(key) {
            return Err(Consent::Given);
        }
        if self.asking.contains(key) {
            return Err(Consent::Asking);
        }
        let question = if self.half_asked.remove(key) {
            Question::Nonce
        } else {
            self.challenges.begin(host, now).map_err(|wait| match wait {
                Wait::ForOthers => Consent::Asking,
                Wait::For(wait) => Consent::LeftAlone(wait),
            })?;
            Question::Origin
        };
        self.asking.insert(key.clone());
        Ok(question)
    }

    fn conclude(
        &mut self,
        question: Question,
        answered: Result<(Answer, bool), SendError>,
        key: &Key,
        host: &str,
    ) -> Consent {
        match (answered, question) {
            (Ok((Answer { reached, .. }, true)), _) => {
                self.challenges.take_back(host);
                remember(&mut self.given, key);
                Consent::Asked { reached }
            }
            (Ok((Answer { reached, .. }, false)), Question::Origin) => {
                remember(&mut self.half_asked, key);
                Consent::Asked { reached }
            }
            (Ok((answer, false)), Question::Nonce) => {
                self.challenges.end(host);
                match outcome::of_status(answer.status) {
                    Verdict::Gone | Verdict::Overloaded => Consent::Answered(Box::new(answer)),
                    _ => Consent::Refused { reached: answer.reached },
                }
            }
            (Err(error), _) => {
                let nothing_left =
                    error.is_ours() || matches!(error, SendError::Forbidden(_) | SendError::Dns(_));
                if nothing_left && question == Question::Origin {
                    self.challenges.take_back(host);
                } else {
                    self.challenges.end(host);
                }
                Consent::Failed(error)
            }
        }
    }
}

/// Ends with the question, also where nobody waits for its answer any more.
struct Asking<'c> {
    consents: &'c Consents,
    key: Key,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.consents.state().asking.remove(&self.key);
    }
}

/// The answer, and whether it is yes.
async fn put(
    question: Question,
    context: &Context,
    address: &Address,
    own_headers: Option<&HeaderMap>,
) -> Result<(Answer, bool), SendError> {
    let mut headers = own_headers.cloned().unwrap_or_default();
    match question {
        Question::Origin => {
            let origin = context.settings.public_url.host_str().unwrap_or_default();
            if let Ok(origin) = HeaderValue::from_str(origin) {
                headers.insert(REQUEST_ORIGIN, origin);
            }
            let request = Request { address, headers, body: Bytes::new() };
            let answer = context.sender.ask(Method::OPTIONS, request, context.clock.as_ref()).await?;
            let agrees = consent::is_allowed(origin, answer.status, answer.allowed_origin.as_deref());
            Ok((answer, agrees))
        }
        Question::Nonce => {
            let nonce = format!("{:032x}", u128::from_be_bytes(context.entropy.bytes()));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let body = format!(r#"{{"type":"watchpost.channel.challenge","challenge":"{nonce}"}}"#);
            let request = Request { address, headers, body: body.into() };
            let answer = context.sender.ask(Method::POST, request, context.clock.as_ref()).await?;
            let agrees = consent::is_repeated(&nonce, answer.status, &answer.body_excerpt);
            Ok((answer, agrees))
        }
    }
}

fn remember(keys: &mut HashSet<Key>, key: &Key) {
    if keys.len() >= REMEMBERED_MAX {
        keys.clear();
    }
    keys.insert(key.clone());
}
