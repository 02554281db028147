//! Who says who callers are, by the settings: an external issuer.

use super::server::BoxError;
use crate::{
    app::{
        Callers,
        issuer::{self, Issuer},
    },
    clock::SharedClock,
    config::Config,
    outbound::{EgressPolicy, Fetcher, FetcherConfig},
};

pub fn of(config: &Config, policy: &EgressPolicy, clock: &SharedClock) -> Result<Callers, BoxError> {
    let fetcher = |url: &url::Url, timeout, answer_bytes_max| {
        Fetcher::new(FetcherConfig {
            url: url.clone(),
            policy: policy.clone(),
            user_agent: config.user_agent.clone(),
            ca_file: config.egress.ca_file.clone(),
            timeout,
            answer_bytes_max,
        })
    };
    let issuer = match &config.issuer {
        None => None,
        Some(issuer) => {
            let fetcher = fetcher(&issuer.jwks_url, issuer::FETCH_TIMEOUT, issuer::KEY_SET_BYTES_MAX)?;
            Some(Issuer::new(issuer.rules.clone(), fetcher, clock.clone()))
        }
    };
    Ok(Callers { issuer })
}
