//! A new master key: everything that is sealed under the old one is sealed under the new one. With no server on the
//! store. Can end anywhere and be begun again.

use crate::{
    domain::channel::ChannelKey,
    entropy::Entropy,
    signing::{
        Keys, Rewrapper, SealError, auth_place, header_place, secret_place, signing_key_place, token_place,
    },
    store::{Lease, LeaseTerm, RewrapBegun, SealedOfChannel, Store, StoreError},
};

/// Slices of channels that one run walks at most: more than any store holds.
const SLICES_MAX: usize = 1_000_000;
/// On a shared store nobody delivers meanwhile: the walk holds the lease, and renews it with every slice.
const NODE: &str = "rewrap";
const TERM: LeaseTerm = LeaseTerm(std::time::Duration::from_mins(5));

/// What a run has sealed anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    pub channels: u64,
    pub signing_keys: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RewrapError {
    #[error("a node delivers on this database: stop all of them first")]
    InUse,
    #[error("a re-wrap to another key was begun: finish it with that key first")]
    Another,
    #[error(
        "{0} opens neither under the old master key nor under the new one: nothing was changed from there on"
    )]
    Unopenable(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Seals everything in `store` under `new` that is sealed under `old`.
pub async fn rewrap(
    store: &Store,
    old: &Keys,
    new: &Keys,
    entropy: &dyn Entropy,
) -> Result<Rewrapped, RewrapError> {
    let lease = store.take_lease(NODE.to_owned(), TERM).await?.ok_or(RewrapError::InUse)?;
    let outcome = match store.begin_rewrap(new.fingerprint.clone()).await? {
        RewrapBegun::Done => Ok(Rewrapped::default()),
        RewrapBegun::Another => Err(RewrapError::Another),
        RewrapBegun::Begun => walk(store, lease, old, new, entropy).await,
    };
    store.release_lease(NODE.to_owned(), lease).await?;
    outcome
}

async fn walk(
    store: &Store,
    lease: Lease,
    old: &Keys,
    new: &Keys,
    entropy: &dyn Entropy,
) -> Result<Rewrapped, RewrapError> {
    let exchange = Rewrapper::new(&old.sealer, &new.sealer);
    let mut rewrapped = Rewrapped::default();
    for key in store.signing_keys().await? {
        let unopenable = |_| RewrapError::Unopenable(format!("the signing key {}", key.kid));
        let place = signing_key_place(&key.kid);
        if let Some(sealed) = exchange.rewrap(&key.sealed, &place, entropy.bytes()).map_err(unopenable)? {
            store.reseal_signing_key(key.n, sealed).await?;
            rewrapped.signing_keys += 1;
        }
    }
    let mut after = ChannelKey(0);
    for _ in 0..SLICES_MAX {
        store.renew_lease(NODE.to_owned(), lease, TERM).await?.ok_or(RewrapError::InUse)?;
        let slice = store.sealed_of_channels(after).await?;
        let Some(last) = slice.last() else { break };
        after = last.key;
        let mut resealed = Vec::new();
        for channel in slice {
            let unopenable = |_| RewrapError::Unopenable(format!("a secret of the channel {}", channel.uid));
            resealed.extend(reseal(&exchange, &channel, entropy).map_err(unopenable)?);
        }
        rewrapped.channels += u64::try_from(resealed.len()).unwrap_or(0);
        store.reseal_channels(resealed).await?;
    }
    store.finish_rewrap(new.fingerprint.clone()).await?;
    Ok(rewrapped)
}

/// The channel under the new key; `None` where there is nothing to do.
fn reseal(
    exchange: &Rewrapper<'_>,
    channel: &SealedOfChannel,
    entropy: &dyn Entropy,
) -> Result<Option<SealedOfChannel>, SealError> {
    let mut resealed = channel.clone();
    let place = secret_place(&channel.project, &channel.uid);
    let retiring = resealed.retiring.iter_mut().map(|secret| &mut secret.sealed);
    for sealed in resealed.secret.iter_mut().chain(retiring) {
        if let Some(anew) = exchange.rewrap(sealed, &place, entropy.bytes())? {
            *sealed = anew;
        }
    }
    if let Some(auth) = resealed.options.auth.take() {
        let place = auth_place(&channel.project, &channel.uid);
        resealed.options.auth =
            Some(auth.try_map(|text| exchange.rewrap_text(text, &place, entropy.bytes()))?);
    }
    if let Some(token) = resealed.token.take() {
        let place = token_place(&channel.project, &channel.uid);
        resealed.token = Some(exchange.rewrap_text(token, &place, entropy.bytes())?);
    }
    for (name, value) in &mut resealed.options.headers {
        let place = header_place(&channel.project, &channel.uid, name);
        *value = exchange.rewrap_text(std::mem::take(value), &place, entropy.bytes())?;
    }
    Ok((resealed != *channel).then_some(resealed))
}
