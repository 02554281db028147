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
mod openapi;
mod ops;
mod v1;

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};

use self::guesses::Guesses;
pub use self::v1::api_key_json;
use crate::{app::App, jobs::Jobs};

/// What handlers work with.
#[derive(Clone, Debug)]
pub struct Web {
    pub app: App,
    pub jobs: Arc<Jobs>,
    /// Where the native API lives, such as `/v1`.
    pub native_prefix: String,
    guesses: Guesses,
}

impl Web {
    pub fn new(app: App, jobs: Arc<Jobs>, native_prefix: String) -> Self {
        Self { app, jobs, native_prefix, guesses: Guesses::default() }
    }
}

/// All routes, without a socket, so that tests can read them.
pub fn routes(config: &mut ServiceConfig, web: &Web) {
    config.app_data(Data::new(web.clone()));
    ops::routes(config);
    claims::routes(config);
    jwks::routes(config);
    openapi::routes(config);
    v1::routes(config, &web.native_prefix);
    google::routes(config);
}
