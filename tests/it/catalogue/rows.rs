//! The table: what a receiver does, and what the ledger says of it.

use super::{BIG_BYTES, OK, OK_AND_CLOSE, Row, broken, delivered, failed, late, row, run};
use crate::support::misbehaving::{
    frames,
    script::{Script, on_connection, on_frames, on_request},
    tls::{self, Authority, HTTP1, HTTP2},
};

/// A status line with nothing behind it, on a connection that may be used again.
fn says_status(status: &str) -> Script {
    on_request().says(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).again()
}

/// 200 with these lines of headers.
fn says_headers(lines: &str) -> Script {
    on_request().says(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n")).again()
}

/// What is answered at once, whatever it is.
fn answers(authority: &Authority) -> Vec<Row> {
    let chunks_without_end = "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let extended = format!("1;{}\r\nx\r\n", "e".repeat(16 * 1024));
    let bait = format!(
        "HTTP/1.1 500 No\r\ncontent-length: 1000040\r\n\r\n{:40}{}",
        "<script>\0\u{1b}[2J\u{fffd}</script>token=abc",
        "y".repeat(1_000_000)
    );
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000));
    let long_header = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(10 * 1024 * 1024));
    let long_location = format!("301 Away\r\nlocation: http://{}/", "y".repeat(10 * 1024));
    let closed_behind = format!("{OK}HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n");
    vec![
        row("B-05", "closes right after accept", on_connection().closes(), broken("reset")),
        row("B-05", "resets at the first byte", on_connection().reads(1).resets(), broken("reset")),
        row("B-06", "reads, closes", on_request().closes(), broken("reset")),
        row("B-06", "reads, resets", on_request().resets(), broken("reset")),
        row("B-07", "resets in a body", on_connection().reads(4096).resets(), broken("reset")).big(),
        row(
            "B-08",
            "200 before the body, then reads it",
            on_connection().reads(256).says(OK_AND_CLOSE),
            delivered(200),
        )
        .big(),
        row(
            "B-08",
            "200 before the body, closes",
            on_connection().reads(256).says(OK_AND_CLOSE).closes(),
            delivered(200),
        )
        .big(),
        row(
            "B-09",
            "500 before the body, stays open",
            on_connection()
                .reads(256)
                .says("HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            failed(500),
        )
        .big(),
        row(
            "B-11",
            "200, then a byte now and then",
            on_request().says("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").drips("abc").holds(),
            delivered(200),
        ),
        row(
            "B-12",
            "200, a terabyte",
            on_request()
                .says("HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
                .floods([b'x'; 65_536]),
            delivered(200),
        ),
        row(
            "B-13",
            "500, chunks without end",
            on_request().says(chunks_without_end).floods(&chunk),
            failed(500),
        ),
        row(
            "B-15",
            "chunks of one byte with 16 KiB beside it",
            on_request().says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").floods(&extended),
            delivered(200),
        ),
        row("B-16", "says gzip", zipped("200 OK", "gzip"), delivered(200)),
        row("B-16", "says br", zipped("200 OK", "br"), delivered(200)),
        row("B-16", "says zstd", zipped("200 OK", "zstd"), delivered(200)),
        row("B-16", "says deflate, fails", zipped("500 No", "deflate"), failed(500)),
        row("B-16", "zipped five times", zipped("200 OK", "gzip, gzip, gzip, gzip, gzip"), delivered(200)),
        row("B-17", "10,000 headers", on_request().says(many_headers), broken("bad_http")),
        row("B-17", "a header of 10 MiB", on_request().says(long_header), broken("bad_http")),
        row("B-18", "no code", on_request().says("HTTP/1.1 OK\r\n\r\n"), broken("bad_http")),
        row("B-18", "ICY", on_request().says("ICY 200 OK\r\n\r\n"), broken("bad_http")),
        row("B-18", "HTTP/9.9", on_request().says("HTTP/9.9 200 OK\r\n\r\n"), broken("bad_http")),
        row("B-18", "empty lines", on_request().says("\r\n\r\n").closes(), broken("reset")),
        row("B-18", "binary", on_request().says([0, 255, 1, 254, 13, 10, 13, 10]), broken("bad_http")),
        row("B-18", "a TLS record", on_request().says(tls::version_alert()), broken("bad_http")),
        row("B-19", "status 0", says_status("0 No"), broken("bad_http")),
        row("B-19", "status 99", says_status("099 No"), broken("bad_http")),
        row(
            "B-19",
            "status 199, then 299",
            on_request()
                .says("HTTP/1.1 199 Wait\r\n\r\nHTTP/1.1 299 Odd\r\ncontent-length: 0\r\n\r\n")
                .again(),
            delivered(299),
        ),
        row("B-19", "status 299", says_status("299 Odd"), delivered(299)),
        row("B-19", "status 600", says_status("600 Odd"), failed(600)),
        row("B-19", "status 999", says_status("999 Odd"), failed(999)),
        row("B-19", "status 1000", says_status("1000 Odd"), broken("bad_http")),
        row(
            "B-20",
            "204 with a body",
            on_request().says("HTTP/1.1 204 No Content\r\n\r\nsurplus"),
            delivered(204),
        ),
        row("B-20", "205", says_status("205 Reset"), delivered(205)),
        row("B-20", "206", says_status("206 Part"), delivered(206)),
        row("B-20", "304", on_request().says("HTTP/1.1 304 Same\r\n\r\n").again(), failed(304)),
        row(
            "B-22",
            "101",
            on_request().says("HTTP/1.1 101 Go\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
            failed(101),
        ),
        row("B-23", "301 with 10 KiB", says_status(&long_location), failed(301)),
        row("B-23", "302 to file:", says_status("302 Away\r\nlocation: file:///etc/passwd"), failed(302)),
        row(
            "B-23",
            "303 to where no packet may go",
            says_status("303 Away\r\nlocation: http://169.254.169.254/"),
            failed(303),
        ),
        row("B-23", "307 to itself", says_status("307 Away\r\nlocation: /"), failed(307)),
        row("B-23", "308 to nowhere", says_status("308 Away\r\nlocation: \u{ff}\u{1}"), broken("bad_http")),
        row("B-32", "400 to everything", says_status("400 No"), failed(400)),
        row("B-39", "two answers to one request", on_request().says(closed_behind), delivered(200)),
        row("B-40", "bait in its body", on_request().says(bait), failed(500)),
        row(
            "B-41",
            "cookies",
            says_headers("set-cookie: a=b; path=/\r\nset-cookie: c=d\r\n"),
            delivered(200),
        ),
        row(
            "B-41",
            "other services",
            says_headers("alt-svc: h2=\":1\"\r\nrefresh: 0; url=/x\r\n"),
            delivered(200),
        ),
        row(
            "B-41",
            "preloads, and only with TLS",
            says_headers("link: </x>; rel=preload\r\nstrict-transport-security: max-age=9\r\n"),
            delivered(200),
        ),
        row(
            "B-35",
            "nothing is wrong",
            on_request().says(OK).again().through(&authority.good(HTTP1)),
            delivered(200),
        ),
        row(
            "B-35",
            "expired",
            on_request().says(OK).through(&authority.expired()),
            broken("tls_certificate"),
        ),
        row(
            "B-35",
            "not yet valid",
            on_request().says(OK).through(&authority.not_yet_valid()),
            broken("tls_certificate"),
        ),
        row(
            "B-35",
            "another host's",
            on_request().says(OK).through(&authority.for_another_host()),
            broken("tls_certificate"),
        ),
        row("B-35", "its own", on_request().says(OK).through(&tls::self_signed()), broken("tls_certificate")),
        row(
            "B-35",
            "a stranger's",
            on_request().says(OK).through(&Authority::new().good(HTTP1)),
            broken("tls_certificate"),
        ),
        row(
            "B-36",
            "knows only TLS 1.0, says so",
            on_connection().says(tls::version_alert()),
            broken("tls_failed"),
        )
        .secure(),
        row(
            "B-36",
            "knows only TLS 1.0, tries",
            on_connection().says(tls::hello_of_tls_1_0()),
            broken("tls_failed"),
        )
        .secure(),
        row("B-36", "talks plainly", on_connection().says(bad()), broken("tls_failed")).secure(),
        row("B-36", "a chain of 1 MiB", on_connection().says(tls::endless_chain()), broken("tls_failed"))
            .secure(),
        row(
            "B-36",
            "wants to know who is there",
            on_request().says(OK).through(&authority.good_for_known_clients()),
            broken("tls_failed"),
        ),
        row(
            "B-36",
            "another protocol",
            on_request().says(OK).through(&authority.good("smtp")),
            broken("tls_failed"),
        ),
        in_frames(
            authority,
            "speaks HTTP/2",
            on_frames(&frames::settings()).says(frames::ok()).says(frames::enough()),
            delivered(200),
        ),
        in_frames(
            authority,
            "GOAWAY at once",
            on_connection().reads(frames::PREFACE_BYTES).says(frames::settings()).says(frames::go_away()),
            broken("reset"),
        ),
        in_frames(
            authority,
            "GOAWAY as the answer",
            on_frames(&frames::settings()).says(frames::go_away()),
            broken("reset"),
        ),
        in_frames(
            authority,
            "REFUSED_STREAM",
            on_frames(&frames::settings()).says(frames::refused()).says(frames::enough()),
            broken("reset"),
        ),
        in_frames(
            authority,
            "PUSH_PROMISE",
            on_frames(&frames::settings()).says(frames::push_promise()),
            broken("reset"),
        ),
        in_frames(
            authority,
            "headers without end",
            on_frames(&frames::settings()).says(frames::headers_begun()).floods(frames::continuation()),
            broken("reset"),
        ),
        in_frames(
            authority,
            "an HPACK bomb",
            on_frames(&frames::settings()).says(frames::hpack_bomb()).says(frames::enough()),
            broken("reset"),
        ),
        in_frames(
            authority,
            "1,000 pings, then 200",
            on_frames(&frames::settings())
                .says(frames::ping().repeat(1_000))
                .says(frames::ok())
                .says(frames::enough()),
            delivered(200),
        ),
    ]
}

/// What takes its time: given up when the attempt's time is over, or before.
fn silences(authority: &Authority) -> Vec<Row> {
    let processing = "HTTP/1.1 102 Processing\r\n\r\n";
    let hints = "HTTP/1.1 103 Hints\r\nlink: </x>\r\n\r\n".repeat(100);
    vec![
        row("B-03", "neither reads nor answers", on_connection().goes_deaf(), late("answer_timeout")),
        row("B-03", "reads, does not answer", on_request(), late("answer_timeout")),
        row(
            "B-10",
            "a status line byte by byte",
            on_request().drips("HTTP/1.1 200 OK\r\n"),
            late("answer_timeout"),
        ),
        row(
            "B-10",
            "a header byte by byte",
            on_request().says("HTTP/1.1 200 OK\r\nx: ").drips("y"),
            late("answer_timeout"),
        ),
        row("B-21", "102 now and then", on_request().repeats(processing), late("answer_timeout")),
        row("B-21", "hundreds of 103s a second", on_request().repeats(hints), late("answer_timeout")),
        row("B-36", "says nothing to a TLS hello", on_connection(), late("answer_timeout")).secure(),
        in_frames(
            authority,
            "no window",
            on_frames(&frames::settings_without_window()),
            late("answer_timeout"),
        )
        .kept(),
        in_frames(
            authority,
            "thousands of SETTINGS a second",
            on_frames(&frames::settings()).repeats(frames::settings().repeat(1_000)),
            late("answer_timeout"),
        )
        .kept(),
        in_frames(
            authority,
            "thousands of pings a second",
            on_frames(&frames::settings()).repeats(frames::ping().repeat(1_000)),
            late("answer_timeout"),
        )
        .kept(),
        row(
            "B-50",
            "reads 1 KiB and no more",
            on_connection().reads(1024).goes_deaf(),
            late("answer_timeout"),
        )
        .big(),
    ]
}

fn bad() -> &'static str {
    "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"
}

/// A body that says that it is compressed and would explode, if it were.
fn zipped(status: &str, encoding: &str) -> Script {
    let head = format!("HTTP/1.1 {status}\r\ncontent-encoding: {encoding}\r\ncontent-length: 1034\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3]);
    bytes.extend([0; 1024]);
    on_request().says(bytes).again()
}

fn in_frames(authority: &Authority, what: &'static str, script: Script, expected: super::Expected) -> Row {
    row("B-37", what, script.through(&authority.good(HTTP2)), expected)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_answer_is_it_means_one_thing() {
    const { assert!(BIG_BYTES < 256 * 1024) };
    let authority = Authority::new();
    run(&authority, &answers(&authority), "15s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_takes_its_time_is_given_up() {
    let authority = Authority::new();
    run(&authority, &silences(&authority), "2s").await;
}
