//! Where and how one channel's notifications go: what sending needs of a channel, prepared once per revision.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::auth::{Proof, Unusable};
use crate::{
    domain::{
        channel::{Channel, SignatureScheme},
        event::Event,
        filter::EventFilter,
        headers,
        notice::NoticeKind,
        time::Timestamp,
    },
    outbound::{Address, EgressPolicy, Origin, Refusal},
    signing::{SealError, Sealer, SigningSecret, header_place, secret_place, token_place},
};

/// One revision of a channel. A newer one makes it stale; a request checks that right before it leaves.
#[derive(Debug)]
pub struct Target {
    pub channel: Channel,
    /// A refusal at send time means that the policy has changed since the channel was opened.
    pub address: Result<Address, Refusal>,
    /// What the receiver knows the channel by.
    token: Result<Option<String>, SealError>,
    /// The owner's own headers.
    headers: Result<HeaderMap, SealError>,
    pub secret: Option<SigningSecret>,
    /// Those before it that sign as well, each up to a moment.
    retiring: Vec<(SigningSecret, Timestamp)>,
    /// What proves the server to the receiver.
    proof: Result<Option<Proof>, Unusable>,
    /// What the channel wants; everything where there is none.
    pub filter: Option<Arc<EventFilter>>,
    origin: Origin,
    /// Where notices go, if not to the address itself.
    notices_to: Option<(Result<Address, Refusal>, Origin)>,
    stale: AtomicBool,
}

impl Target {
    pub fn new(channel: Channel, policy: &EgressPolicy, sealer: &Sealer, header_prefix: &str) -> Self {
        let (address, origin) = place_of(policy, &channel.address);
        let notices_to =
            channel.options.lifecycle_address.as_deref().map(|address| place_of(policy, address));
        let open = |sealed: &[u8]| {
            let opened = sealer.open(sealed, &secret_place(&channel.project, &channel.uid));
            if opened.is_err() {
                tracing::error!(channel.uid = %channel.uid, "a signing secret does not open under this master key");
            }
            opened.ok().map(SigningSecret::from_bytes)
        };
        let secret = channel.sealed_secret.as_deref().and_then(open);
        let retiring = &channel.retiring_secrets;
        let proof = Proof::of(&channel, sealer).inspect_err(|error| {
            tracing::error!(channel.uid = %channel.uid, "{error}");
        });
        let retiring = retiring.iter().filter_map(|old| Some((open(&old.sealed)?, old.until))).collect();
        let unopened = |what| {
            let uid = channel.uid.clone();
            move |error: &SealError| tracing::error!(channel.uid = %uid, what, "{error}")
        };
        let place = token_place(&channel.project, &channel.uid);
        let token = channel.token.as_deref().map(|sealed| sealer.open_text(sealed, &place)).transpose();
        Self {
            token: token.inspect_err(unopened("token")),
            headers: owner_headers(&channel, sealer, header_prefix).inspect_err(unopened("headers")),
            filter: channel.options.filter(&channel.resource_path).map(Arc::new),
            address,
            secret,
            retiring,
            proof,
            origin,
            notices_to,
            stale: AtomicBool::new(false),
            channel,
        }
    }

    pub fn wants(&self, event: &Event) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(event))
    }

    /// What shares a window of requests in flight.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// A ping asks the receiver itself.
    pub fn notice_address(&self, kind: NoticeKind) -> &Result<Address, Refusal> {
        let elsewhere = self.notices_to.as_ref().filter(|_| kind != NoticeKind::Ping);
        elsewhere.map_or(&self.address, |(address, _)| address)
    }

    pub fn notice_origin(&self, kind: NoticeKind) -> &Origin {
        let elsewhere = self.notices_to.as_ref().filter(|_| kind != NoticeKind::Ping);
        elsewhere.map_or(&self.origin, |(_, origin)| origin)
    }

    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Acquire)
    }

    pub fn make_stale(&self) {
        self.stale.store(true, Ordering::Release);
    }

    /// Whether the channel asked for this scheme.
    pub fn asks_for(&self, scheme: SignatureScheme) -> bool {
        self.channel.options.signatures.iter().any(|word| word == scheme.as_str())
    }

    /// Whether the server's own keys sign for it.
    pub fn needs_keys(&self) -> bool {
        self.asks_for(SignatureScheme::V1a)
            || self.asks_for(SignatureScheme::Jwt)
            || matches!(self.proof, Ok(Some(Proof::Token { .. })))
    }

    /// What proves the server to whoever gets this.
    pub fn proof(&self, notice: Option<NoticeKind>) -> Option<&Proof> {
        self.proof.as_ref().ok()?.as_ref().filter(|_| self.is_for_receiver(notice))
    }

    /// What the receiver knows the channel by.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().ok()?.as_deref()
    }

    /// The owner's own headers for whoever gets this.
    pub fn headers(&self, notice: Option<NoticeKind>) -> Option<&HeaderMap> {
        self.headers.as_ref().ok().filter(|_| self.is_for_receiver(notice))
    }

    /// Only the channel's receiver itself is shown what it was trusted with, not an address elsewhere that is told of
    /// the channel's life.
    fn is_for_receiver(&self, notice: Option<NoticeKind>) -> bool {
        notice.is_none_or(|kind| self.notice_origin(kind) == &self.origin)
    }

    /// What signs at `now`, the present secret first.
    pub fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &SigningSecret> {
        let retiring = self.retiring.iter().filter(move |(_, until)| now < *until);
        self.secret.iter().chain(retiring.map(|(secret, _)| secret))
    }

    /// Whether everything sealed has opened: nothing is sent without its secret, proof, token or headers.
    pub fn is_unsealed(&self) -> bool {
        let has_secret = self.secret.is_some() || self.channel.sealed_secret.is_none();
        has_secret && self.proof.is_ok() && self.token.is_ok() && self.headers.is_ok()
    }
}

fn place_of(policy: &EgressPolicy, address: &str) -> (Result<Address, Refusal>, Origin) {
    let judged = policy.judge(address);
    let origin =
        judged.as_ref().map_or_else(|_| Origin::named("forbidden"), |address| address.origin().clone());
    (judged, origin)
}

/// Checked again on the way out: the row may be older than a rule.
fn owner_headers(channel: &Channel, sealer: &Sealer, header_prefix: &str) -> Result<HeaderMap, SealError> {
    let mut map = HeaderMap::new();
    let mut clear = BTreeMap::new();
    for (name, sealed) in &channel.options.headers {
        let place = header_place(&channel.project, &channel.uid, name);
        clear.insert(name.clone(), sealer.open_text(sealed, &place)?);
    }
    if let Err(invalid) = headers::check(&clear, header_prefix) {
        tracing::warn!(channel.uid = %channel.uid, problem = %invalid, "the channel's own headers are left out");
        return Ok(map);
    }
    for (name, value) in &clear {
        if let (Ok(name), Ok(mut value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str()))
        {
            value.set_sensitive(true);
            map.insert(name, value);
        }
    }
    Ok(map)
}
