//! HTTP/2 frames by hand: as many as it takes to misbehave.

pub const HEAD_BYTES: usize = 9;
pub const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, from the static table of HPACK.
const STATUS_200: u8 = 0x88;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

/// SETTINGS under which not a byte of a body may be sent.
pub fn settings_without_window() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])
}

pub fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}

/// 200 without a body, on the first stream.
pub fn ok() -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &[STATUS_200])
}

/// GOAWAY that says no stream was looked at, so that every request might be sent again.
pub fn go_away() -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[0; 8])
}

/// GOAWAY that says that the first stream was the last.
pub fn enough() -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])
}

/// RST_STREAM with REFUSED_STREAM, which a client may answer by sending again.
pub fn refused() -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &[0, 0, 0, 7])
}

/// Headers of the first stream that do not end.
pub fn headers_begun() -> Vec<u8> {
    frame(HEADERS, END_STREAM, 1, &[STATUS_200])
}

/// More of them: `x: y`, not indexed, many times.
pub fn continuation() -> Vec<u8> {
    frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(2_000))
}

/// One long header in the dynamic table, then thousands of references to it: 16 KiB that stand for megabytes.
pub fn hpack_bomb() -> Vec<u8> {
    let mut block = vec![STATUS_200, 0x40, 1, b'x'];
    // A length of 4000: the prefix is full, then 3873 in groups of seven bits.
    block.extend([0x7f, 0xa1, 0x1e]);
    block.extend([b'y'; 4_000]);
    block.extend([0xbe; 12_000]);
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

/// Promises stream 2, which a client that has not disabled it would take.
pub fn push_promise() -> Vec<u8> {
    frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82, 0x87, 0x84])
}
