//! What a receiver does with a connection, written as one sentence: `on_request().says("ICY 200\r\n\r\n").closes()`.

use std::sync::Arc;

use rustls::ServerConfig;

use super::frames;

#[derive(Clone, Debug)]
pub struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
    /// TLS, and with what; otherwise none.
    pub(super) door: Option<Arc<ServerConfig>>,
    pub(super) in_frames: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// To its end.
    ReadRequest,
    /// So many bytes of it.
    Read(usize),
    /// Up to the frame that begins it.
    ReadFramesOfRequest,
    Say(Vec<u8>),
    Drip(Vec<Vec<u8>>),
    Flood(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Closes the connection.
    Close,
    Reset,
    /// Says nothing more, and listens until the sender hangs up.
    Hold,
    /// Neither speaks nor listens, for ever.
    Deaf,
    /// Plays again from the beginning, for the next request of this connection.
    Next,
}

/// Begins to play without having read anything.
pub fn on_connection() -> Script {
    Script { steps: Vec::new(), end: End::Hold, door: None, in_frames: false }
}

/// Begins to play when a request has come.
pub fn on_request() -> Script {
    on_connection().step(Step::ReadRequest)
}

/// HTTP/2: says `settings` (a whole frame) and begins to play when the request begins to come.
pub fn on_frames(settings: &[u8]) -> Script {
    let script = on_connection().step(Step::Read(frames::PREFACE_BYTES)).says(settings);
    Script { in_frames: true, ..script.step(Step::ReadFramesOfRequest) }
}

impl Script {
    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    pub fn through(self, door: &Arc<ServerConfig>) -> Self {
        Self { door: Some(Arc::clone(door)), ..self }
    }

    pub fn is_plain(&self) -> bool {
        self.door.is_none()
    }

    pub fn reads(self, bytes: usize) -> Self {
        self.step(Step::Read(bytes))
    }

    pub fn reads_another(self) -> Self {
        self.step(Step::ReadRequest)
    }

    pub fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Say(bytes.as_ref().to_vec()))
    }

    /// Byte by byte, again and again, until the sender hangs up.
    pub fn drips(self, bytes: &str) -> Self {
        self.step(Step::Drip(bytes.bytes().map(|byte| vec![byte]).collect()))
    }

    /// The whole of it, again and again but slowly, until the sender hangs up.
    pub fn repeats(self, piece: impl AsRef<[u8]>) -> Self {
        self.step(Step::Drip(vec![piece.as_ref().to_vec()]))
    }

    /// Again and again as fast as it is taken, until the sender hangs up.
    pub fn floods(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Flood(bytes.as_ref().to_vec()))
    }

    pub fn closes(self) -> Self {
        self.end(End::Close)
    }

    pub fn resets(self) -> Self {
        self.end(End::Reset)
    }

    pub fn holds(self) -> Self {
        self.end(End::Hold)
    }

    pub fn goes_deaf(self) -> Self {
        self.end(End::Deaf)
    }

    pub fn again(self) -> Self {
        self.end(End::Next)
    }

    /// Nobody but the sender ends such a connection.
    pub fn is_held(&self) -> bool {
        self.end == End::Hold
    }
}
