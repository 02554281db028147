//! A publisher's own memory, on disk before anything is sent and after everything that is answered: what it was
//! told does not hang on anybody's cache.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::history::{Event, Fate, Publish};

/// One publisher's journal; it has no other writer.
pub struct Journal {
    publisher: usize,
    path: PathBuf,
    file: File,
}

impl Journal {
    pub fn new(folder: &Path, publisher: usize) -> Self {
        let path = folder.join(format!("publisher-{publisher}.journal"));
        Self { publisher, file: File::create_new(&path).unwrap(), path }
    }

    /// Before the first byte of a publish leaves.
    pub fn intend(&mut self, events: &[Event]) {
        let events: Vec<_> = events
            .iter()
            .map(|event| json!({ "id": event.id, "resource": event.resource, "data": event.data }))
            .collect();
        self.write(&json!({ "intent": events }));
    }

    /// Once the answer has been read; without this line the last intent's fate is unknown.
    pub fn acknowledged(&mut self, seqs: &[i64]) {
        self.write(&json!({ "acknowledged": seqs }));
    }

    pub fn refused(&mut self) {
        self.write(&json!({ "refused": true }));
    }

    fn write(&mut self, line: &Value) {
        writeln!(self.file, "{line}").unwrap();
        self.file.sync_data().unwrap();
    }

    /// Reads it back as the history wants it.
    pub fn read(&self) -> Vec<Publish> {
        let mut publishes: Vec<Publish> = Vec::new();
        for line in std::fs::read_to_string(&self.path).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if let Some(events) = line["intent"].as_array() {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let event = |event: &Value| Event {
                    id: text(&event["id"]),
                    resource: text(&event["resource"]),
                    data: text(&event["data"]),
                };
                publishes.push(Publish {
                    publisher: self.publisher,
                    events: events.iter().map(event).collect(),
                    fate: Fate::Unknown,
                });
                continue;
            }
            publishes.last_mut().unwrap().fate = match line["acknowledged"].as_array() {
                Some(seqs) => Fate::Acknowledged(seqs.iter().map(|seq| seq.as_i64().unwrap()).collect()),
                None => Fate::Refused,
            };
        }
        publishes
    }
}
