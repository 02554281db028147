//! The faces, over HTTP. Handlers are thin: they read a request into an app's request, call one use case and word
//! the answer or the error in their dialect.
//!
//! Native routes win only on exact matches; every other `POST …/watch` and `POST …/channels/stop` is the Google
//! face, which is why it stands as the default service.

mod body;
mod claims;
mod extract;
mod google;
mod guesses;
mod jwks;
mod limits;
mod openapi;
mod ops;
mod unread;
mod v1;
mod welcome;

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest,
    web::{Data, ServiceConfig},
};

use self::{guesses::Guesses, limits::Limits};
pub use self::{unread::close_on_unread, v1::api_key_json};
use crate::{
    app::{AccessError, App, Principal},
    domain::{channel::RateLimit, proxies::TrustedProxies},
    jobs::Jobs,
};

/// What handlers work with.
#[derive(Clone, Debug)]
pub struct Web {
    pub app: App,
    pub jobs: Arc<Jobs>,
    /// Where the native API lives, such as `/v1`.
    pub native_prefix: String,
    claim_guesses: Guesses,
    credential_guesses: Guesses,
    limits: Limits,
    proxies: TrustedProxies,
}

impl Web {
    pub fn new(app: App, jobs: Arc<Jobs>, native_prefix: String) -> Self {
        Self {
            app,
            jobs,
            native_prefix,
            claim_guesses: Guesses::new(guesses::WRONG_CLAIMS_MAX),
            credential_guesses: Guesses::new(guesses::WRONG_CREDENTIALS_MAX),
            limits: Limits::default(),
            proxies: TrustedProxies::default(),
        }
    }

    /// How fast one caller may ask.
    #[must_use]
    pub fn limited_to(self, rate: Option<RateLimit>) -> Self {
        Self { limits: Limits::new(rate), ..self }
    }

    /// Which proxies are believed about whom a request comes from.
    #[must_use]
    pub fn behind(self, proxies: TrustedProxies) -> Self {
        Self { proxies, ..self }
    }

    /// Whom a request comes from.
    fn client(&self, request: &HttpRequest) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip();
        let all = |name: &str| -> Vec<&str> {
            request.headers().get_all(name).map(|value| value.to_str().unwrap_or_default()).collect()
        };
        Some(self.proxies.client(peer, &all("X-Forwarded-For"), &all("Forwarded")))
    }

    /// Counts a claim URL that leads nowhere; how long its sender has to wait, where there were too many.
    fn wrong_claim(&self, request: &HttpRequest) -> Option<Duration> {
        self.claim_guesses.count(self.client(request)?, self.app.clock.monotonic())
    }

    /// The same for credentials that stand for nobody. What has expired was right once, and its holder must hear that.
    fn wrong_credential(&self, request: &HttpRequest, error: AccessError) -> Option<Duration> {
        let client = self.client(request).filter(|_| error == AccessError::Invalid)?;
        self.credential_guesses.count(client, self.app.clock.monotonic())
    }

    /// Who asks, by the credential that a face has found in the request.
    async fn admit(
        &self,
        request: &HttpRequest,
        credential: impl FnOnce() -> Result<Option<String>, AccessError>,
    ) -> Result<Principal, NotAdmitted> {
        let refused = |error| match self.wrong_credential(request, error) {
            Some(wait) => NotAdmitted::GuessesTooOften(wait),
            None => NotAdmitted::Refused(error),
        };
        let principal = self.app.authenticate(credential).await.map_err(refused)?;
        match self.limits.take(&principal.project, &principal.subject, self.app.now()) {
            Some(wait) => Err(NotAdmitted::AsksTooOften(wait)),
            None => Ok(principal),
        }
    }
}

/// Why nothing is done for a request. Each face has its own words for it.
enum NotAdmitted {
    Refused(AccessError),
    GuessesTooOften(Duration),
    AsksTooOften(Duration),
}

/// What only whoever runs the server needs to reach.
pub fn ops_routes(config: &mut ServiceConfig, web: &Web) {
    config.app_data(Data::new(web.clone()));
    ops::routes(config);
}

/// The faces.
pub fn routes(config: &mut ServiceConfig, web: &Web) {
    config.app_data(Data::new(web.clone()));
    welcome::routes(config);
    claims::routes(config);
    jwks::routes(config);
    openapi::routes(config);
    v1::routes(config, &web.native_prefix);
    google::routes(config);
}
