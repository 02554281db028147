//! A channel, its place and its attempts as answers show them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    app::{App, channels::Opened, detail::ChannelDetail},
    domain::{
        auth::ReceiverAuth,
        channel::Channel,
        duration::format_duration,
        hidden::{MARK, mask_query},
        time::Timestamp,
    },
    store::{ChannelView, RecordedAttempt},
};

pub(super) fn opened_json(app: &App, opened: &Opened) -> Value {
    let mut shown = channel_json(app, &opened.channel);
    shown["claimUrl"] = app.claim_url(&opened.channel).into();
    if let Some(secret) = &opened.secret {
        shown["secret"] = secret.reveal().into();
    }
    shown
}

fn channel_json(app: &App, channel: &Channel) -> Value {
    let headers: BTreeMap<&str, &str> =
        channel.options.headers.keys().map(|name| (name.as_str(), MARK)).collect();
    json!({
        "id": channel.id,
        "uid": channel.uid,
        "resource": channel.resource_path.as_str(),
        "resourceId": channel.resource_id,
        "resourceUri": channel.resource_uri,
        "subject": channel.subject,
        "address": mask_query(&channel.address),
        "token": app.channel_token(channel),
        "format": channel.format.as_str(),
        "payload": channel.payload,
        "ordering": channel.options.ordering.as_str(),
        "catchUp": channel.catch_up.as_str(),
        "signatures": channel.options.signatures,
        "headers": headers,
        "retry": {
            "schedule": schedule_json(&channel.options.retry_schedule_ms),
            "window": channel.options.retry_window_ms.map(duration_json),
            "maxAttempts": channel.options.max_attempts,
            "onExhausted": channel.options.on_exhausted.as_str(),
        },
        "events": channel.options.events,
        "rateLimit": channel.options.rate_limit,
        "renewal": channel.options.renewal.as_str(),
        "lifecycle": channel.options.lifecycle,
        "lifecycleAddress": channel.options.lifecycle_address.as_deref().map(mask_query),
        "redirects": channel.options.redirects.as_str(),
        "auth": channel.options.auth.as_ref().map_or(Value::Null, auth_json),
        "excerpts": channel.options.excerpts,
        "metadata": channel.options.metadata,
        "state": channel.state.as_str(),
        "expiresAt": channel.expires_at.to_rfc3339(),
        "createdAt": channel.created_at.to_rfc3339(),
        "endedAt": channel.ended_at.map(Timestamp::to_rfc3339),
    })
}

fn auth_json(auth: &ReceiverAuth<String>) -> Value {
    let mut shown = match auth {
        ReceiverAuth::Basic { username, .. } => json!({ "type": "basic", "username": username }),
        ReceiverAuth::Bearer { .. } => json!({ "type": "bearer" }),
        ReceiverAuth::Header { name, .. } => json!({ "type": "header", "name": name }),
        ReceiverAuth::Jwt { audience } => json!({ "type": "jwt", "audience": audience }),
    };
    if let Some((name, _)) = auth.secret() {
        shown[name] = MARK.into();
    }
    shown
}

/// `null` means the server's own schedule.
fn schedule_json(steps_ms: &[u64]) -> Value {
    if steps_ms.is_empty() {
        return Value::Null;
    }
    steps_ms.iter().copied().map(duration_json).collect()
}

fn duration_json(millis: u64) -> String {
    format_duration(Duration::from_millis(millis))
}

pub(in crate::web::v1) fn view_json(app: &App, view: &ChannelView) -> Value {
    let mut shown = channel_json(app, &view.channel);
    let cursor = &view.cursor;
    // Before the sync is through, the cursor stands in front of the channel's first number.
    let number = view.channel.number_of(cursor.seq);
    shown["cursor"] = json!({
        "number": number,
        "seq": (number > 0).then_some(cursor.seq),
        "lag": view.head - cursor.seq,
        "attempts": cursor.failing.attempts,
        "failingSince": cursor.failing.since.map(Timestamp::to_rfc3339),
        "lastSuccessAt": cursor.last_success_at.map(Timestamp::to_rfc3339),
        "nextAttemptAt": cursor.failing.due_at.filter(|_| cursor.failing.attempts > 0).map(Timestamp::to_rfc3339),
    });
    shown
}

/// One channel in full, as a list does not show it.
pub(super) fn detail_json(app: &App, detail: &ChannelDetail) -> Value {
    let mut shown = view_json(app, &detail.view);
    shown["lastAttempt"] = detail.last_attempt.as_ref().map_or(Value::Null, attempt_json);
    let cursor = &mut shown["cursor"];
    cursor["oldestPendingAt"] = detail.oldest_pending_at.map(Timestamp::to_rfc3339).into();
    cursor["lastError"] = detail.last_error.as_ref().map_or(Value::Null, error_json);
    cursor["why"] = detail.waiting.as_str().into();
    cursor["parked"] = detail.parked.into();
    shown
}

fn error_json(attempt: &RecordedAttempt) -> Value {
    json!({
        "status": attempt.status,
        "error": attempt.error,
        "at": attempt.started_at.to_rfc3339(),
    })
}

pub(in crate::web::v1) fn attempt_json(attempt: &RecordedAttempt) -> Value {
    json!({
        "number": attempt.number,
        "attempt": attempt.attempt,
        "startedAt": attempt.started_at.to_rfc3339(),
        "durationMs": attempt.duration_ms,
        "phases": phases_json(attempt),
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": attempt.error,
        "notice": attempt.notice,
        "excerpt": attempt.excerpt.as_deref().map(shown_text),
    })
}

/// Where the time went: until status line and headers were in, and on the rest of the answer.
fn phases_json(attempt: &RecordedAttempt) -> Value {
    json!({
        "answerMs": attempt.answer_ms,
        "drainMs": attempt.answer_ms.map(|answered| attempt.duration_ms.saturating_sub(answered).max(0)),
    })
}

/// A stranger's bytes as text that moves no cursor: what is not UTF-8 is replaced, control characters are escaped.
fn shown_text(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for letter in String::from_utf8_lossy(bytes).chars() {
        if letter.is_control() {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_sent_is_text() {
        let sent = b"out of \"order\"\\\r\n\x1b[2J\x00\xff\x7f";
        assert_eq!(shown_text(sent), "out of \"order\"\\\\r\\n\\u{1b}[2J\\u{0}\u{fffd}\\u{7f}");
        assert_eq!(shown_text("ü\u{85}".as_bytes()), "ü\\u{85}");
    }
}
