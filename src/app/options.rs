//! A channel's options as a request gives them: checked here, kept as [`ChannelOptions`]. Opening starts from the
//! defaults, a change from what the channel has.

use std::{collections::BTreeMap, time::Duration};

use super::{
    App,
    auth::{AuthRequest, NOTHING_BEHIND},
    channels::ChannelError,
};
use crate::{
    domain::{
        channel::{self, ChannelOptions, OnExhausted, Ordering, RateLimit, Redirects, Renewal},
        filter, headers,
        hidden::MARK,
        invalid::{FieldError, InField, Invalid},
        time::millis_of,
    },
    signing::header_place,
};

pub const RETRY_STEPS_MAX: usize = 32;
/// The longest step of a channel's own schedule.
pub const RETRY_STEP_MAX: Duration = Duration::from_hours(24);
pub const RETRY_WINDOW_MIN: Duration = Duration::from_mins(1);
pub const RETRY_WINDOW_MAX: Duration = Duration::from_hours(30 * 24);
pub const ATTEMPTS_MAX: i64 = 1_000;

/// What a request says of options; `None` leaves one alone.
#[derive(Clone, Debug, Default)]
pub struct OptionsRequest {
    pub headers: Option<BTreeMap<String, String>>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub retry: Option<RetryRequest>,
    pub events: Option<Vec<String>>,
    /// States as the watched Google API words them.
    pub event_states: Option<Vec<String>>,
    /// `eventType`s of Calendar's events.
    pub event_types: Option<Vec<String>>,
    pub rate_limit: Option<Option<RateLimit>>,
    pub renewal: Option<Renewal>,
    pub lifecycle: Option<bool>,
    pub lifecycle_address: Option<Option<String>>,
    pub redirects: Option<Redirects>,
    pub auth: Option<Option<AuthRequest>>,
    pub excerpts: Option<bool>,
}

/// A whole `retry` object: what it leaves out is the server's own.
#[derive(Clone, Debug, Default)]
pub struct RetryRequest {
    pub schedule: Vec<Duration>,
    pub window: Option<Duration>,
    pub max_attempts: Option<i64>,
    pub on_exhausted: Option<OnExhausted>,
}

impl App {
    /// `options` of the channel `uid` with what the request asks for.
    pub(super) fn with_options(
        &self,
        mut options: ChannelOptions,
        request: OptionsRequest,
        project: &str,
        uid: &str,
    ) -> Result<ChannelOptions, ChannelError> {
        if let Some(mut headers) = request.headers {
            for (name, value) in &mut headers {
                if value == MARK {
                    let behind = options.headers.get(name);
                    let sealed =
                        behind.ok_or_else(|| FieldError::new(format!("headers.{name}"), NOTHING_BEHIND))?;
                    *value = self.open_text(sealed, &header_place(project, uid, name))?;
                }
            }
            headers::check(&headers, &self.settings.header_prefix).in_field("headers")?;
            options.headers = self.seal_headers(headers, project, uid)?;
        }
        if let Some(metadata) = request.metadata {
            channel::check_metadata(&metadata).in_field("metadata")?;
            options.metadata = metadata;
        }
        if let Some(retry) = request.retry {
            set_retry(&mut options, &retry)?;
        }
        if let Some(events) = request.events {
            filter::check_globs(&events)
                .map_err(|(at, invalid)| FieldError::new(format!("events[{at}]"), invalid))?;
            options.events = events;
        }
        if let Some(states) = request.event_states {
            options.event_states = states;
        }
        if let Some(types) = request.event_types {
            options.event_types = types;
        }
        if let Some(rate_limit) = request.rate_limit {
            options.rate_limit = rate_limit;
        }
        if let Some(address) = request.lifecycle_address {
            let present = options.lifecycle_address.as_deref();
            let judge = |address: String| self.address(&address, present, "lifecycleAddress");
            options.lifecycle_address = address.map(judge).transpose()?;
        }
        options.renewal = request.renewal.unwrap_or(options.renewal);
        options.lifecycle = request.lifecycle.unwrap_or(options.lifecycle);
        options.redirects = request.redirects.unwrap_or(options.redirects);
        options.excerpts = request.excerpts.unwrap_or(options.excerpts);
        self.set_auth(&mut options, request.auth, project, uid)?;
        Ok(options)
    }
}

/// What a channel is opened with and keeps.
#[derive(Clone, Debug, Default)]
pub struct FixedOptions {
    pub ordering: Ordering,
    pub signatures: Vec<String>,
}

impl From<FixedOptions> for ChannelOptions {
    fn from(fixed: FixedOptions) -> Self {
        Self { ordering: fixed.ordering, signatures: fixed.signatures, ..Self::default() }
    }
}

fn set_retry(options: &mut ChannelOptions, retry: &RetryRequest) -> Result<(), FieldError> {
    options.retry_schedule_ms = check_schedule(&retry.schedule)?;
    options.retry_window_ms = retry.window.map(check_window).transpose()?;
    options.max_attempts = retry.max_attempts.map(check_attempts).transpose()?;
    options.on_exhausted = retry.on_exhausted.unwrap_or_default();
    Ok(())
}

fn check_schedule(schedule: &[Duration]) -> Result<Vec<u64>, FieldError> {
    if schedule.len() > RETRY_STEPS_MAX {
        return Err(FieldError::new("retry.schedule", Invalid::TooMany { max: RETRY_STEPS_MAX }));
    }
    if schedule.iter().any(|step| *step > RETRY_STEP_MAX) {
        return Err(FieldError::new("retry.schedule", Invalid::Rule("have steps of at most 24 h")));
    }
    Ok(schedule.iter().copied().map(whole_millis).collect())
}

fn check_window(window: Duration) -> Result<u64, FieldError> {
    if (RETRY_WINDOW_MIN..=RETRY_WINDOW_MAX).contains(&window) {
        Ok(whole_millis(window))
    } else {
        Err(FieldError::new("retry.window", Invalid::Rule("lie between 1m and 30d")))
    }
}

fn check_attempts(attempts: i64) -> Result<u32, FieldError> {
    let within = (1..=ATTEMPTS_MAX).contains(&attempts);
    u32::try_from(attempts)
        .ok()
        .filter(|_| within)
        .ok_or_else(|| FieldError::new("retry.maxAttempts", Invalid::Rule("lie between 1 and 1000")))
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(millis_of(duration)).unwrap_or(0)
}
