//! Those who use the program while it is being killed: publishers, and one owner who opens, changes and stops
//! channels. Whatever was left in doubt they repeat under the same id until they know.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    board::{Alarm, Board},
    dice::Dice,
    history::{Channel, Event, Stop},
    http::{Client, Response},
    journal::Journal,
    receiver::{Receiver, SECRET},
};

pub const RESOURCES: [&str; 4] =
    ["calendar/v3/calendars/a@x/events", "drive/v3/files/F1", "orders/1", "tenants/7/invoices"];
/// Publishers wait while a watched channel is further behind than this, so that every campaign can end.
const LAG_MAX: i64 = 60;
const BATCH_MAX: u64 = 6;
/// How long the program may be away: it is restarted at once.
const AWAY_MAX: Duration = Duration::from_mins(1);
/// Between two tries that the same process did not take.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Channels of the owner that may stay open.
const LEFT_OPEN_MAX: usize = 4;

/// A channel's face, which says also what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// With payload, signed.
    Native,
    /// Thin, and nothing left out.
    Google,
}

struct Caller {
    board: Arc<Board>,
    client: Client,
}

impl Caller {
    fn up(&self) -> (usize, SocketAddr) {
        let found = self.board.wait_for(AWAY_MAX, |state| {
            assert!(!state.broken, "another part of the test failed first");
            state.address.map(|address| (state.incarnation, address))
        });
        found.expect("the program comes back")
    }

    /// One try: the answer, and which process was asked. An error, and 503, leave it in doubt.
    fn once(&mut self, method: &str, path: &str, body: &str) -> (usize, Option<Response>) {
        let (incarnation, address) = self.up();
        let answered =
            self.client.send(address, method, path, body).ok().filter(|response| response.status != 503);
        if answered.is_none() {
            self.board.wait_for(AGAIN_AFTER, |state| (state.incarnation != incarnation).then_some(()));
        }
        (incarnation, answered)
    }

    /// Until there is an answer: it, the process that gave it, and whether an earlier try was in doubt.
    fn surely(&mut self, method: &str, path: &str, body: &str) -> (Response, usize, bool) {
        let mut doubted = false;
        loop {
            match self.once(method, path, body) {
                (incarnation, Some(response)) => return (response, incarnation, doubted),
                (_, None) => doubted = true,
            }
        }
    }
}

/// Publishes until everything is over, and finishes what it has begun.
pub fn publish(board: Arc<Board>, token: &str, seed: u64, number: usize, journal: &mut Journal) {
    let alarm_board = Arc::clone(&board);
    let _alarm = Alarm(&alarm_board);
    let mut dice = Dice::new(seed, &format!("publisher {number}"));
    let mut caller = Caller { board, client: Client::new(token) };
    let mut made = 0;
    loop {
        let resource = RESOURCES[dice.index(RESOURCES.len())];
        let room = caller.board.wait_for(AWAY_MAX, |state| {
            if state.is_over() { Some(false) } else { (state.lag(resource) < LAG_MAX).then_some(true) }
        });
        assert!(room.is_some(), "deliveries of {resource} stand still");
        if room == Some(false) {
            return;
        }
        let count = if dice.one_in(3) { dice.between(2, BATCH_MAX) } else { 1 };
        let events: Vec<Event> = (0..count)
            .map(|at| {
                made += 1;
                // A batch may touch several resources.
                let resource =
                    if at > 0 && dice.one_in(2) { RESOURCES[dice.index(RESOURCES.len())] } else { resource };
                event(&mut dice, number, made, resource)
            })
            .collect();
        let bad = dice.one_in(40);
        let body = body_of(&events, bad);
        journal.intend(&events);
        // Some give up at the first doubt: what they asked for happened once or not at all.
        let patient = !dice.one_in(4);
        loop {
            match caller.once("POST", "/v1/events", &body) {
                (_, Some(Response { status: 400, .. })) if bad => break journal.refused(),
                (_, Some(Response { status: 200, body })) if !bad => {
                    break acknowledge(&caller.board, journal, &events, &body);
                }
                (_, Some(Response { status, body })) => panic!("{status} {body} for {events:?}"),
                (_, None) if !patient => break,
                (_, None) => {}
            }
        }
    }
}

fn acknowledge(board: &Board, journal: &mut Journal, events: &[Event], body: &Value) {
    let placed = body["events"].as_array().unwrap();
    assert_eq!(placed.len(), events.len(), "{body}");
    let place = |(placed, event): (&Value, &Event)| {
        assert!(
            placed["id"] == event.id && placed["resource"] == event.resource,
            "{event:?} became {placed}"
        );
        placed["seq"].as_i64().unwrap()
    };
    let seqs: Vec<i64> = placed.iter().zip(events).map(place).collect();
    journal.acknowledged(&seqs);
    board.note(|state| {
        state.acknowledged += events.len();
        for (event, seq) in events.iter().zip(&seqs) {
            let head = state.heads.entry(event.resource.clone()).or_default();
            *head = (*seq).max(*head);
        }
    });
}

/// Data with white space and escapes of its own: its bytes have to survive.
fn event(dice: &mut Dice, publisher: usize, made: usize, resource: &str) -> Event {
    let size = if dice.one_in(20) { dice.between(1_000, 20_000) } else { dice.between(0, 60) };
    let filling = "x".repeat(usize::try_from(size).unwrap());
    Event {
        id: format!("p{publisher}-{made}"),
        resource: resource.to_owned(),
        data: format!("{{ \"made\":{made},\t\"by\": [{publisher} ], \"f\\u0069lling\": \"{filling}\"}}"),
    }
}

/// `bad`: the last event's name is none, so that the whole batch is refused.
fn body_of(events: &[Event], bad: bool) -> String {
    let one = |(at, event): (usize, &Event)| {
        let name = if bad && at + 1 == events.len() { "noname" } else { "crash.test.made" };
        format!(
            "{{\"id\":\"{}\",\"resource\":\"{}\",\"name\":\"{name}\",\"data\":{}}}",
            event.id, event.resource, event.data
        )
    };
    let mut all: Vec<String> = events.iter().enumerate().map(one).collect();
    if all.len() == 1 { all.remove(0) } else { format!("{{\"events\":[{}]}}", all.join(",")) }
}

/// The owner of all channels.
pub struct Owner {
    caller: Caller,
    receiver: Arc<Receiver>,
    dice: Dice,
    channels: Vec<(Face, Channel)>,
}

impl Owner {
    pub fn new(board: Arc<Board>, token: &str, seed: u64, receiver: Arc<Receiver>) -> Self {
        let caller = Caller { board, client: Client::new(token) };
        Self { caller, receiver, dice: Dice::new(seed, "owner"), channels: Vec::new() }
    }

    pub fn into_channels(self) -> Vec<Channel> {
        self.channels.into_iter().map(|(_, channel)| channel).collect()
    }

    /// The channels that are there from the first event to the last.
    pub fn open_lasting(&mut self) {
        for (at, resource) in RESOURCES.iter().enumerate() {
            for (which, face) in [Face::Native, Face::Google, Face::Native].into_iter().enumerate() {
                let id = format!("lasting-{at}-{which}");
                self.open(&id, resource, face, Some(0));
                self.caller.board.note(|state| state.watched.push((id, (*resource).to_owned())));
            }
        }
    }

    /// Opens, changes and stops channels until everything is over.
    pub fn churn(&mut self) {
        let board = Arc::clone(&self.caller.board);
        let _alarm = Alarm(&board);
        let mut left_open = 0;
        for number in 0.. {
            if board.look(crate::board::State::is_over) {
                return self.watch_open_ones();
            }
            let resource = RESOURCES[self.dice.index(RESOURCES.len())];
            let face = if self.dice.one_in(2) { Face::Native } else { Face::Google };
            let id = format!("brief-{number}");
            self.open(&id, resource, face, None);
            for _ in 0..self.dice.between(1, 3) {
                self.until_had_more(&id);
                self.change();
            }
            if left_open < LEFT_OPEN_MAX && self.dice.one_in(4) {
                left_open += 1;
            } else {
                self.until_had_more(&id);
                self.stop();
            }
        }
    }

    /// From now on they count for what has to arrive.
    fn watch_open_ones(&self) {
        let open =
            self.channels.iter().filter(|(_, channel)| channel.start.is_none() && channel.stop.is_none());
        self.caller.board.note(|state| {
            state.watched.extend(open.map(|(_, channel)| (channel.id.clone(), channel.resource.clone())));
        });
    }

    /// Waits for one more delivery, though not for ever: the program may just be dead.
    fn until_had_more(&self, id: &str) {
        let had = self.caller.board.look(|state| state.had.get(id).copied());
        self.caller.board.wait_for(Duration::from_secs(1), |state| {
            (state.is_over() || state.had.get(id).copied() > had).then_some(())
        });
    }

    fn open(&mut self, id: &str, resource: &str, face: Face, start: Option<i64>) {
        let address = self.receiver.url(id, 0);
        let (path, body) = match face {
            Face::Native => (
                "/v1/channels".to_owned(),
                json!({
                    "id": id, "resource": resource, "address": address, "token": "v0", "format": "standard",
                    "payload": true, "catchUp": "all", "secret": SECRET,
                }),
            ),
            Face::Google => (
                format!("/{resource}/watch"),
                json!({
                    "id": id, "type": "web_hook", "address": address, "token": "v0", "payload": false,
                    "params": { "catchUp": "all" },
                }),
            ),
        };
        self.begin();
        let (response, incarnation, doubted) = self.caller.surely("POST", &path, &body.to_string());
        match (face, response.status) {
            (Face::Native, 201) | (Face::Google, 200) => {}
            // The earlier try worked.
            (Face::Native, 409) | (Face::Google, 400) if doubted => {}
            (_, status) => panic!("{status} {} for {body}", response.body),
        }
        let (id, resource) = (id.to_owned(), resource.to_owned());
        self.caller.board.note(|state| state.opened.push(id.clone()));
        let channel = Channel {
            id,
            resource,
            full: face == Face::Native,
            start,
            tokens: vec![incarnation],
            stop: None,
        };
        self.channels.push((face, channel));
    }

    /// Gives the newest channel a new token and a new address, which go together.
    fn change(&mut self) {
        let (_, channel) = self.channels.last().unwrap();
        let version = channel.tokens.len();
        let address = self.receiver.url(&channel.id, version);
        let body = json!({ "token": format!("v{version}"), "address": address }).to_string();
        let path = format!("/v1/channels/{}", channel.id);
        self.begin();
        let (response, incarnation, _) = self.caller.surely("PATCH", &path, &body);
        assert_eq!(response.status, 200, "{}", response.body);
        assert_eq!(response.body["token"], format!("v{version}"));
        self.channels.last_mut().unwrap().1.tokens.push(incarnation);
    }

    /// Stops the newest channel as its face does.
    fn stop(&mut self) {
        let (face, channel) = self.channels.last().unwrap();
        let path = format!("/v1/channels/{}", channel.id);
        let (method, path, body) = match face {
            Face::Native => ("DELETE", path, String::new()),
            Face::Google => {
                let (found, ..) = self.caller.surely("GET", &path, "");
                let body = json!({ "id": channel.id, "resourceId": found.body["resourceId"] });
                ("POST", "/calendar/v3/channels/stop".to_owned(), body.to_string())
            }
        };
        self.begin();
        let (response, incarnation, doubted) = self.caller.surely(method, &path, &body);
        let done = response.status == 204 || (doubted && matches!(response.status, 404 | 409));
        assert!(done, "{} {}", response.status, response.body);
        let requests = self.receiver.count();
        self.channels.last_mut().unwrap().1.stop = Some(Stop { incarnation, requests });
    }

    fn begin(&self) {
        self.caller.board.note(|state| state.changes += 1);
    }
}
