//! Watchpost: a push-notification channel service.
//!
//! A client opens an expiring *watch channel* on a resource; the server sends a `sync` message and then a
//! notification for every change, in order, until the channel ends. The idea behind it: one log per resource,
//! one cursor per channel. A publish appends one row whatever the number of channels.
//!
//! The layers, each of which may only use those to its right: `web` → `jobs` → `app`, `engine` → `store`, `signing`,
//! `outbound`, `wake` → `domain`. `app` and `engine` do not know each other. Only `cli::server` knows everything.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod engine;
pub mod entropy;
pub mod jobs;
pub mod outbound;
pub mod runtime;
pub mod signing;
pub mod store;
pub mod telemetry;
pub mod wake;
pub mod web;
