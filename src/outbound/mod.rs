//! The only code that talks HTTP to the outside. (`cli::client` talks to a Watchpost server that the operator named,
//! and to nobody else.)
//!
//! Every address passes one policy, twice: as text when somebody names it ([`EgressPolicy::judge`]), and as the IP
//! addresses it turns out to be whenever a connection is opened. Nothing here decides about retries, or writes.

pub mod bridge;
pub mod client;
pub mod destination;
pub mod fetcher;
pub mod names;
pub mod policy;
pub mod resolver;
pub mod sender;

pub use bridge::Bridge;
pub use client::{SenderConfig, SetupError};
pub use destination::Destination;
pub use fetcher::{FetchError, Fetched, Fetcher, FetcherConfig, FetcherError};
pub use policy::{Address, EgressPolicy, EgressRules, Origin, Refusal};
pub use sender::{Answer, Phase, Request, SendError, Sender};
