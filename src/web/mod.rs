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

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    HttpRequest,
    web::{Data, ServiceConfig},
};

pub use self::{unread::close_on_unread, v1::api_key_json};
use self::{guesses::Guesses, limits::Limits};
use crate::{
    app::App,
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
    guesses: Guesses,
    limits: Limits,
    proxies: TrustedProxies,
}

impl Web {
    pub fn new(app: App, jobs: Arc<Jobs>, native_prefix: String) -> Self {
        let (guesses, limits) = (Guesses::default(), Limits::default());
        Self { app, jobs, native_prefix, guesses, limits, proxies: TrustedProxies::default() }
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
        let forwarded: Vec<&str> =
            request.headers().get_all("X-Forwarded-For").filter_map(|value| value.to_str().ok()).collect();
        Some(self.proxies.client(peer, forwarded.into_iter()))
    }
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
