//! Pure types and decisions: no async, no clock, no randomness, no I/O. `now` is always an argument.

pub mod backoff;
pub mod channel;
pub mod claim;
pub mod cursor;
pub mod duration;
pub mod egress;
pub mod event;
pub mod expiry;
pub mod fate;
pub mod filter;
pub mod google_state;
pub mod headers;
pub mod id;
pub mod invalid;
pub mod issuer;
pub mod notice;
pub mod outcome;
pub mod proxies;
pub mod rate;
pub mod renewal;
pub mod resource;
pub mod settled;
pub mod time;
pub mod waiting;
