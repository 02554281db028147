//! `GET /v1/events/{id}`: an event and what became of it, channel by channel.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path},
};
use serde_json::{Value, json};

use super::{Problem, authenticate, events::event_json, page_token, read_page_token};
use crate::{
    app::fates::{ChannelFate, ENTRIES_MAX, EventFates, FatePlace, PAGE_MAX},
    domain::{channel::ChannelKey, fate::Fate, id, time::Timestamp},
    web::{Web, extract::Query},
};

const PAGE_DEFAULT: i64 = 50;

pub async fn show(request: HttpRequest, id: Path<String>, web: Data<Web>) -> Result<HttpResponse, Problem> {
    let principal = authenticate(&request, &web).await?;
    let query = Query::read(&request, &["limit", "pageToken"])?;
    let limit = query.number("limit", PAGE_DEFAULT, 1, PAGE_MAX)?;
    let after = read_page_token(query.get("pageToken"))?.map(place_of);
    let fates = web.app.event_fates(&principal, &id, after, limit).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(fates_json(&fates)? + "\n"))
}

/// A place as one number: few entries, many channels.
fn token_of(place: FatePlace) -> String {
    let entry = i64::try_from(place.entry).unwrap_or(0);
    page_token(place.channel.0.saturating_mul(ENTRIES_MAX).saturating_add(entry))
}

fn place_of(number: i64) -> FatePlace {
    let entry = usize::try_from(number.rem_euclid(ENTRIES_MAX)).unwrap_or(0);
    FatePlace { entry, channel: ChannelKey(number.div_euclid(ENTRIES_MAX)) }
}

/// Written with the data's own bytes in it, as the feed is.
fn fates_json(fates: &EventFates) -> Result<String, Problem> {
    let first = fates.entries.first().ok_or_else(|| Problem::not_found("event"))?;
    let event = event_json(first.resource.as_str(), &first.resource_id, &first.event)?;
    let entries: Vec<Value> = fates
        .entries
        .iter()
        .map(|entry| {
            json!({
                "resource": entry.resource.as_str(),
                "resourceId": entry.resource_id,
                "seq": entry.event.seq,
            })
        })
        .collect();
    let mut more = json!({
        "entries": entries,
        "channels": fates.channels.iter().map(fate_json).collect::<Vec<_>>(),
    });
    if let Some(next) = fates.next {
        more["nextPageToken"] = token_of(next).into();
    }
    let more = more.to_string();
    let (event, more) = (event.strip_suffix('}'), more.strip_prefix('{'));
    Ok(format!("{},{}", event.unwrap_or_default(), more.unwrap_or_default()))
}

fn fate_json(told: &ChannelFate) -> Value {
    let (channel, cursor) = (&told.view.channel, &told.view.cursor);
    let number = channel.number_of(told.seq);
    // What backs off is the head alone.
    let retries = told.fate == Fate::Pending && told.exception.is_none() && told.attempts > Some(0);
    let exception = told.exception.as_ref();
    json!({
        "channelId": channel.id,
        "uid": channel.uid,
        "subject": channel.subject,
        "resource": told.resource.as_str(),
        "seq": told.seq,
        "number": number,
        "webhookId": id::webhook_id(&channel.uid, number),
        "status": told.fate.as_str(),
        "attempts": told.attempts,
        "nextAttemptAt": cursor.failing.due_at.filter(|_| retries).map(Timestamp::to_rfc3339),
        "reason": exception.and_then(|exception| exception.reason.as_deref()),
        "lastStatus": exception.and_then(|exception| exception.status),
        "lastError": exception.and_then(|exception| exception.error.as_deref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_survive_their_token() {
        for (entry, channel) in [(0, 0), (7, 0), (3, 1), (7, 123_456_789_012)] {
            let place = FatePlace { entry, channel: ChannelKey(channel) };
            let read = read_page_token(Some(&token_of(place))).ok().flatten().map(place_of);
            assert_eq!(read, Some(place));
        }
    }
}
