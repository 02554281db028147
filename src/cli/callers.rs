//! Who says who callers are, by the settings: an external issuer, and whoever authorizes.

use super::server::BoxError;
use crate::{
    app::{
        Callers,
        authorizer::{self, Authorizer},
        issuer::{self, Issuer},
    },
    clock::SharedClock,
    config::Config,
    entropy::Entropy,
    outbound::{EgressPolicy, Fetcher, FetcherConfig},
};

pub fn of(
    config: &Config,
    policy: &EgressPolicy,
    clock: &SharedClock,
    entropy: &dyn Entropy,
) -> Result<Callers, BoxError> {
    let fetcher = |url: &url::Url, timeout, answer_bytes_max| {
        Fetcher::new(FetcherConfig {
            url: url.clone(),
            policy: policy.clone(),
            name_servers: config.egress.name_servers.clone(),
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
    let authorizer = match &config.authorize_url {
        None => None,
        Some(url) => {
            let fetcher = fetcher(url, authorizer::ASK_TIMEOUT, authorizer::ANSWER_BYTES_MAX)?;
            Some(Authorizer::new(fetcher, clock.clone(), entropy.bytes()))
        }
    };
    Ok(Callers { issuer, authorizer })
}
