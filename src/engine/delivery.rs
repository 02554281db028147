//! One delivery: from the decision to send to a report of what came of it. Runs as a task of its own and holds
//! one slot meanwhile.

use std::time::Duration;

use super::{
    Context,
    consent::Consent,
    lease::Guard,
    machine::Send,
    render::{Notification, Signer, Subject, Told, render},
    slots::{Feedback, Slot},
    subject::{Found, subject_of},
    target::Target,
};
use crate::{
    domain::{
        backoff::parse_retry_after,
        channel::{ChannelKey, Redirects},
        notice::NoticeKind,
        outcome::{self, Verdict},
        time::millis_of,
    },
    outbound::{Address, Answer, Destination, Refusal, Request, SendError},
    store::{Attempt, Notice},
};

/// What came of one delivery.
#[derive(Debug)]
pub struct Report {
    pub channel: ChannelKey,
    /// Where the notification begins; a notice has no place.
    pub first: Option<i64>,
    pub slot: Slot,
    pub end: End,
}

#[derive(Debug)]
pub enum End {
    /// Nothing left: the channel changed or expired in the meantime, or the lease runs out.
    NotSent,
    /// Retention has deleted what was to be sent, up to this seq.
    Hole { through: i64 },
    /// The receiver was asked whether it wants this: the notification takes another slot.
    Asked { reached: Option<Destination> },
    /// Its host has been challenged often enough: nothing leaves for this long.
    LeftAlone { through: i64, wait: Duration },
    /// Our own failure before anything left.
    Ours { through: i64 },
    /// A request that counts.
    Attempted(Attempted),
}

#[derive(Debug)]
pub struct Attempted {
    pub through: i64,
    pub verdict: Verdict,
    pub took: Duration,
    pub retry_after: Option<Duration>,
    /// Where the receiver has moved to, if the channel takes that over.
    pub moved_to: Option<String>,
    /// Where the connection led, where that is known.
    pub reached: Option<Destination>,
    pub attempt: Attempt,
    /// The event's name and state, for whoever watches the engine.
    pub name: String,
    pub state: String,
}

/// A notice on its way.
#[derive(Clone, Debug)]
pub struct Telling {
    pub notice: Notice,
    /// 1, 2, …
    pub attempt: u32,
    /// The place of the last notification, whose number a notice repeats.
    pub seq: i64,
}

impl End {
    pub fn feedback(&self) -> Feedback {
        match self {
            Self::Attempted(attempted) => match attempted.verdict {
                Verdict::Delivered => Feedback::Healthy,
                Verdict::Overloaded => Feedback::Overloaded,
                _ => Feedback::Neutral,
            },
            _ => Feedback::Neutral,
        }
    }
}

/// Carries out `send` for a channel whose last notification stands at the seq `previous`. Staleness, expiry and the lease
/// are looked at right before the request leaves.
pub async fn deliver(
    context: &Context,
    guard: &Guard,
    target: &Target,
    send: Send,
    previous: Option<i64>,
    replay: Option<String>,
) -> End {
    let channel = &target.channel;
    let (through, subject) = match subject_of(context, target, send).await {
        Found::Subject(through, subject) => (through, subject),
        Found::Hole { through } => return End::Hole { through },
        Found::Unreadable => return End::Ours { through: send.first },
    };
    if !target.is_unsealed() {
        return End::Ours { through };
    }
    let now = context.clock.now();
    let (name, state) = match &subject {
        Subject::Sync => ("watchpost.channel.sync".to_owned(), "sync".to_owned()),
        Subject::Event { event, .. } => (event.name.clone(), event.state.clone()),
        // A notice goes another way.
        Subject::Notice(told) => (told.event_type.clone(), told.kind.as_str().to_owned()),
    };
    let number = channel.number_of(through);
    let notification = Notification {
        target,
        number,
        // Beside the log nothing comes before.
        previous: previous.filter(|_| !send.redriven).map(|seq| channel.number_of(seq)),
        seq: through,
        subject,
        attempt: send.attempt,
        replay,
        now,
    };
    let about = About { through, number, attempt: send.attempt, name, state, notice: None };
    request(context, guard, target, &target.address, &notification, about).await
}

/// Carries out the telling of a notice.
pub async fn tell(context: &Context, guard: &Guard, target: &Target, telling: Telling) -> End {
    let channel = &target.channel;
    let Telling { notice, attempt, seq } = telling;
    let notice_kind = notice.kind;
    if !target.is_unsealed() {
        return End::Ours { through: seq };
    }
    let now = context.clock.now();
    let number = channel.number_of(seq).max(1);
    let claim_url =
        context.keys.claim.url(&context.settings.public_url, &channel.uid, channel.claim_rotation);
    let told = Told::new(&notice, claim_url);
    let about = About {
        through: seq,
        number,
        attempt,
        name: told.event_type.clone(),
        state: notice.kind.as_str().to_owned(),
        notice: Some(notice.kind.as_str()),
    };
    let subject = Subject::Notice(told);
    let notification =
        Notification { target, number, previous: None, seq, subject, attempt, replay: None, now };
    request(context, guard, target, target.notice_address(notice_kind), &notification, about).await
}

/// Whether a request may start now: the channel is what it was when the request was decided on, its time is not over, and
/// this node's lease lasts.
fn may_leave(context: &Context, guard: &Guard, target: &Target, after_expiry: bool) -> bool {
    let has_time = after_expiry || context.clock.now() < target.channel.expires_at;
    !target.is_stale() && has_time && guard.may_start(context.clock.monotonic())
}

/// What a request is about, for the ledger and for whoever watches the engine.
struct About {
    through: i64,
    number: i64,
    attempt: u32,
    name: String,
    state: String,
    notice: Option<&'static str>,
}

async fn request(
    context: &Context,
    guard: &Guard,
    target: &Target,
    address: &Result<Address, Refusal>,
    notification: &Notification<'_>,
    about: About,
) -> End {
    let (channel, now) = (&target.channel, notification.now);
    let About { through, number, attempt, name, state, notice } = about;
    let keys = if target.needs_keys() {
        context.keyring.keys(&context.store, &context.keys.sealer, context.clock.as_ref()).await
    } else {
        None
    };
    let signer = Signer { keys: keys.as_deref(), issuer: &context.issuer };
    if !may_leave(context, guard, target, notification.notice() == Some(NoticeKind::Expired)) {
        return End::NotSent;
    }
    let started = context.clock.monotonic();
    let consent = match address {
        Ok(address) => {
            let own = target.headers(notification.notice());
            context.consents.ask(context, &channel.project, address, own).await
        }
        Err(refusal) => Consent::Failed(SendError::Forbidden(*refusal)),
    };
    let mut reached_by_question = None;
    let answer = match (consent, address) {
        (Consent::Given, Ok(address)) => {
            let Ok(rendered) = render(notification, &context.own_headers, signer) else {
                tracing::error!(channel.uid = %channel.uid, "no key signs for the channel");
                return End::Ours { through };
            };
            let request = Request { address, headers: rendered.headers, body: rendered.body };
            context.sender.send(request, context.clock.as_ref()).await
        }
        (Consent::Asked { reached }, _) => return End::Asked { reached },
        (Consent::Asking, _) => return End::Ours { through },
        (Consent::LeftAlone(wait), _) => {
            tracing::info!(channel.uid = %channel.uid, wait_s = wait.as_secs(), "the receiver's host was challenged too often; the channel waits");
            return End::LeftAlone { through, wait };
        }
        (Consent::Refused { reached }, _) => {
            reached_by_question = reached;
            Err(SendError::NoConsent)
        }
        (Consent::Answered(answer), _) => Ok(*answer),
        (Consent::Failed(error), _) => Err(error),
        (Consent::Given, Err(refusal)) => Err(SendError::Forbidden(*refusal)),
    };
    let took = context.clock.monotonic().saturating_sub(started);
    let mut moved_to = None;
    let (verdict, status, error, retry_after) = match &answer {
        Ok(answer) => {
            let verdict;
            (verdict, moved_to) = judge(context, target, address, answer);
            let retry_after =
                answer.retry_after.as_deref().and_then(|text| parse_retry_after(text, context.clock.now()));
            (verdict, Some(answer.status), None, retry_after)
        }
        Err(error) => (verdict_of(*error), None, Some(error.code()), None),
    };
    if let Err(SendError::Forbidden(refusal)) = &answer {
        let setting = context.policy.opened_by(&channel.address, *refusal);
        tracing::warn!(channel.uid = %channel.uid, setting, "the address is forbidden at send time");
    }
    if verdict == Verdict::Ours {
        tracing::warn!(error = error, "this node could not send");
        return End::Ours { through };
    }
    End::Attempted(Attempted {
        through,
        verdict,
        took,
        // Only an overloaded receiver is asked how long it wants to be left alone.
        retry_after: retry_after.filter(|_| verdict == Verdict::Overloaded),
        moved_to,
        reached: answer.as_ref().map_or(reached_by_question, |answer| answer.reached.clone()),
        attempt: Attempt {
            channel: channel.key,
            number,
            attempt,
            started_at: now,
            // How long a name server took is nobody's business where it leads to something forbidden.
            duration_ms: if verdict == Verdict::Forbidden { 0 } else { millis_of(took) },
            outcome: verdict.as_str(),
            status,
            error,
            notice,
            answer_ms: answer.as_ref().ok().map(|answer| millis_of(answer.answered_after)),
            excerpt: answer.ok().map(|answer| answer.body_excerpt).filter(|_| channel.options.excerpts),
        },
        name,
        state,
    })
}

/// What an answer means to this channel, and where the receiver has moved to if the channel takes that over.
fn judge(
    context: &Context,
    target: &Target,
    address: &Result<Address, Refusal>,
    answer: &Answer,
) -> (Verdict, Option<String>) {
    let verdict = outcome::of_status(answer.status);
    if !(300..400).contains(&answer.status) {
        return (verdict, None);
    }
    match target.channel.options.redirects {
        Redirects::Retry => (verdict, None),
        Redirects::Fail => (Verdict::Refused, None),
        Redirects::Update => {
            let to = answer.location.as_deref().filter(|_| outcome::is_permanent_redirect(answer.status));
            let moved_to = to.zip(address.as_ref().ok()).and_then(|(to, from)| {
                // Every road to the outside leads through the policy.
                let to = context.policy.judge_redirect(from, to).ok()?;
                // What this receiver was trusted with is not for it to pass on.
                let may_follow = to.origin() == from.origin() || !target.channel.options.has_auth_secret();
                (may_follow && to.as_str() != from.as_str()).then(|| to.as_str().to_owned())
            });
            (if moved_to.is_some() { Verdict::Moved } else { verdict }, moved_to)
        }
    }
}

fn verdict_of(error: SendError) -> Verdict {
    match error {
        SendError::Forbidden(_) => Verdict::Forbidden,
        error if error.is_ours() => Verdict::Ours,
        SendError::Timeout { .. } => Verdict::Overloaded,
        _ => Verdict::Failed,
    }
}
