//! The story that `dev` tells, through the server's own faces, and what it prints afterwards.

use std::{collections::BTreeSet, fmt::Write as _, io::Write as _, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::{Mutex, broadcast};

use super::bin::{self, Bin};
use crate::{
    app::App,
    cli::{Failure, Outcome, client::Client, say, server::Server, token},
    config::Config,
    domain::{
        channel::{Channel, ResourceKey},
        duration::format_duration,
        time::Timestamp,
    },
    engine::Seen,
    store::{ChannelFilter, Owner},
};

const PROJECT: &str = "demo";
const SUBJECT: &str = "you@example.com";
const CALENDAR: &str = "calendar/v3/calendars/primary/events";
const TOKEN_TTL: Duration = Duration::from_hours(24);
/// How long a step may take before the story gives up.
const STEP_WITHIN: Duration = Duration::from_secs(20);

pub struct Story {
    app: App,
    bin: Arc<Bin>,
    client: Client,
    base: String,
    prefix: String,
    token: String,
    seen: Mutex<broadcast::Receiver<Seen>>,
    appends: Mutex<broadcast::Receiver<ResourceKey>>,
}

impl Story {
    pub fn new(server: &Server, config: &Config, bin: Arc<Bin>) -> Result<Self, Failure> {
        let scopes = BTreeSet::from(["channels".to_owned(), "events".to_owned()]);
        let token = token::mint(config, PROJECT, SUBJECT, &scopes, &[], TOKEN_TTL)?;
        let base = format!("http://{}", server.address);
        Ok(Self {
            app: server.app.clone(),
            client: Client::new(&base, &token)?,
            bin,
            base,
            prefix: config.native_prefix.clone(),
            token,
            seen: Mutex::new(server.engine.observe()),
            appends: Mutex::new(server.app.bells.appends()),
        })
    }

    /// Watch, sync, change, outage.
    pub async fn tell(&self) -> Outcome {
        self.stop_leftovers().await?;
        let channel = self.watch().await?;
        let sync = self.next(&channel).await?;
        say(&format!("2 sync    {}", line(&sync)));
        self.publish("created").await?;
        let change = self.next(&channel).await?;
        say(&format!("3 change  {}", line(&change)));
        self.outage(&channel).await?;
        let channel = self.channel(&channel).await?;
        say(&format!("5 claim   curl {}    (what a receiver has missed)", self.app.claim_url(&channel)));
        Ok(())
    }

    async fn watch(&self) -> Result<String, Failure> {
        let channel = self.fresh_id("demo");
        let body = json!({ "id": channel, "type": "web_hook", "address": format!("{}{}", self.base, bin::PATH), "token": "from=dev" });
        let answer = self.client.post(&format!("/{CALENDAR}/watch"), &body).await?;
        let expires_at =
            answer["expiration"].as_str().and_then(|text| text.parse().ok()).map(Timestamp::from_millis);
        let left = expires_at.map_or(Duration::ZERO, |at| at.since(self.app.now()));
        let rounded = Duration::from_hours(left.as_secs().saturating_add(1_800) / 3_600);
        say(&format!("1 watch   {CALENDAR} → 200, expires in {}", format_duration(rounded)));
        Ok(channel)
    }

    /// An id that no earlier run has used: ids of ended channels stay taken.
    fn fresh_id(&self, prefix: &str) -> String {
        let random: [u8; 4] = self.app.entropy.bytes();
        random.iter().fold(format!("{prefix}-"), |mut id, byte| {
            let _ = write!(id, "{byte:02x}");
            id
        })
    }

    /// The receiver answers 503 twice while two events come in.
    async fn outage(&self, channel: &str) -> Outcome {
        self.bin.answer_next(&[503, 503]);
        self.publish("updated").await?;
        self.publish("deleted").await?;
        print("4 outage  ");
        let mut first = true;
        let number = loop {
            let seen = self.next(channel).await?;
            let lead = if first { format!("#{} → ", seen.number) } else { " … ".to_owned() };
            first = false;
            let Some(next_at) = seen.next_at else {
                print(&format!("{lead}{}", result(&seen)));
                break seen.number;
            };
            let wait = next_at.since(self.app.now()).as_millis().saturating_add(500) / 1_000;
            print(&format!("{lead}{}, next in {wait} s", result(&seen)));
        };
        let after = self.next(channel).await?;
        let kept =
            if after.number == number + 1 && after.next_at.is_none() { "order kept" } else { "order broken" };
        say(&format!("   #{} → {}   {kept}", after.number, result(&after)));
        Ok(())
    }

    async fn publish(&self, verb: &str) -> Outcome {
        let event = json!({ "resource": CALENDAR, "name": format!("calendar.event.{verb}") });
        self.client.post(&format!("{}/events", self.prefix), &event).await?;
        Ok(())
    }

    async fn channel(&self, id: &str) -> Result<Channel, Failure> {
        let owner = Owner { project: PROJECT.to_owned(), subject: Some(SUBJECT.to_owned()) };
        let found = self.app.store.channel(owner, id.to_owned()).await?;
        Ok(found.ok_or("the story's channel is gone")?.channel)
    }

    /// The next attempt for the story's channel.
    async fn next(&self, channel: &str) -> Result<Seen, Failure> {
        let mut seen = self.seen.lock().await;
        let mut late = self.app.clock.sleep(STEP_WITHIN);
        loop {
            let next = tokio::select! {
                next = seen.recv() => next?,
                () = &mut late => return Err("the bin got no notification in time".into()),
            };
            if next.channel_id == channel {
                return Ok(next);
            }
        }
    }

    /// Stops the story's channels, also those of an earlier run that ended without saying goodbye.
    pub async fn stop_leftovers(&self) -> Outcome {
        let owner = Owner { project: PROJECT.to_owned(), subject: Some(SUBJECT.to_owned()) };
        let filter = ChannelFilter {
            state: Some(crate::domain::channel::ChannelState::Active),
            limit: 100,
            ..ChannelFilter::default()
        };
        for view in self.app.store.channels(owner, filter).await? {
            if view.channel.id.starts_with("demo-") && view.channel.address.ends_with(bin::PATH) {
                let principal = self.app.authenticate(|| Ok(Some(self.token.clone()))).await?;
                self.app.stop_channel(&principal, &view.channel.id).await?;
            }
        }
        Ok(())
    }

    /// What to try next, ready to be pasted.
    pub fn hand_over(&self) {
        let Self { base, prefix, token, .. } = self;
        say(&format!(
            "
Your turn  (retry steps are shortened here: a real server waits 5 s, 30 s, 2 min … up to 8 h)
  export TOKEN={token}

  publish   curl -s {base}{prefix}/events -H \"Authorization: Bearer $TOKEN\" \\
              -d '{{\"resource\": \"{CALENDAR}\", \"name\": \"calendar.event.updated\"}}'
  received  curl -s {base}{bin}
  verify    a signed channel opened by POST {prefix}/channels, with pip install standardwebhooks:
              Webhook(secret).verify(body, headers)
  watch     with Google's own client, in python3 after pip install google-api-python-client:

import os
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build
calendar = build(\"calendar\", \"v3\", static_discovery=True, credentials=Credentials(os.environ[\"TOKEN\"]),
                 client_options={{\"api_endpoint\": \"{base}/calendar/v3/\"}})
calendar.events().watch(calendarId=\"primary\", body={{
    \"id\": \"{mine}\", \"type\": \"web_hook\", \"address\": \"{base}{bin}\"}}).execute()

Notifications as they happen; Ctrl-C ends.",
            bin = bin::PATH,
            mine = self.fresh_id("my"),
        ));
    }

    /// Prints every attempt, and warns of events that nobody watches.
    pub async fn show(&self) {
        let mut seen = self.seen.lock().await;
        let mut appends = self.appends.lock().await;
        // Appends of the story itself had their watcher.
        *appends = appends.resubscribe();
        loop {
            tokio::select! {
                next = seen.recv() => match next {
                    Ok(seen) => say(&format!("  {}  {}", seen.channel_id, line(&seen))),
                    Err(broadcast::error::RecvError::Lagged(missed)) => say(&format!("  … {missed} more")),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                resource = appends.recv() => match resource {
                    Ok(resource) => self.warn_if_unwatched(resource).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    async fn warn_if_unwatched(&self, resource: ResourceKey) {
        let Ok(Some((path, 0))) = self.app.store.watchers(resource).await else { return };
        // Every channel leaves an event there, whether or not its owner wants to hear of it.
        if path.is_own() {
            return;
        }
        say(&format!("  ! nobody watches {path}, so nothing was sent"));
        let about_calendars = path.segments().any(|segment| segment == "calendars" || segment == "users");
        if about_calendars {
            say(&format!("    calendars/primary and users/me mean the token's subject, here {SUBJECT}"));
        }
    }
}

/// `#2 exists  calendar.event.created      200   2 ms`
fn line(seen: &Seen) -> String {
    let what = match (seen.notice, seen.number) {
        // It has no number of its own.
        (Some(kind), _) => format!("notice  {kind}"),
        (None, 1) => "#1 sync".to_owned(),
        (None, number) => format!("#{number} {}  {}", seen.state, seen.name),
    };
    let next = seen.next_at.map_or("", |_| "   will be tried again");
    format!("{what:39} {}   {} ms{next}", result(seen), seen.duration_ms)
}

fn result(seen: &Seen) -> String {
    seen.status.map_or_else(|| seen.error.unwrap_or("failed").to_owned(), |status| status.to_string())
}

/// Part of a line, shown while it happens.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
