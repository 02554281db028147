//! Half of the receivers turn hostile: what is left for the other half?
//!
//! One server (the release binary, an embedded store) and 200 receivers, each with a channel on a resource of its own,
//! under a steady load that is the same in both runs. First all of them answer; then every second one stalls, drips, streams
//! for ever, resets, sends garbage or a head without end. Latency is counted from the publish to the arrival, throughput in
//! arrivals per second, both for the half that answers in both runs, so that the two are compared within one process on one
//! machine.
//!
//! `cargo bench --bench hostile` prints both and fails where the healthy half's p99 has more than doubled or its throughput
//! has fallen below 90 %.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a load harness measures real time, and whatever breaks ends it"
)]

#[path = "support/mod.rs"]
mod support;

use std::{
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use self::support::server::Server;

const RECEIVERS: usize = 200;
/// One event for each channel, so often.
const EVERY: Duration = Duration::from_millis(200);
const LOAD: Duration = Duration::from_secs(40);
/// What has been sent before is not counted: connections are opened and hostility shows.
const WARM_UP: Duration = Duration::from_secs(5);
const P99_TIMES_MAX: f64 = 2.0;
const THROUGHPUT_MIN: f64 = 0.9;

#[derive(Clone, Copy, Debug)]
enum Manners {
    Answers,
    Stalls,
    Drips,
    Streams,
    Resets,
    Garbage,
    EndlessHead,
}

const HOSTILE: [Manners; 6] = [
    Manners::Stalls,
    Manners::Drips,
    Manners::Streams,
    Manners::Resets,
    Manners::Garbage,
    Manners::EndlessHead,
];

/// When each event that was counted arrived, after its publish.
type Arrivals = Arc<Mutex<Vec<Duration>>>;

/// Answers every connection with its manners. Where it answers, it notes when events arrive, if they count.
async fn receive(manners: Manners, begin: Instant, counted: Option<Arrivals>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = counted.clone();
            tokio::spawn(async move {
                match manners {
                    Manners::Answers => answer(stream, begin, counted).await,
                    hostile => misbehave(stream, hostile).await,
                }
            });
        }
    });
    port
}

async fn answer(mut stream: TcpStream, begin: Instant, counted: Option<Arrivals>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            read(&mut stream, &mut buffer).await?;
        };
        let length = String::from_utf8_lossy(&buffer[..head])
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        while buffer.len() < head + length {
            read(&mut stream, &mut buffer).await?;
        }
        if let (Some(counted), Some(sent)) = (&counted, sent_at(&buffer[head..head + length]))
            && sent >= WARM_UP
        {
            counted.lock().unwrap().push(begin.elapsed().saturating_sub(sent));
        }
        buffer.drain(..head + length);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok()?;
    }
}

async fn misbehave(mut stream: TcpStream, manners: Manners) -> Option<()> {
    let pause = || tokio::time::sleep(Duration::from_millis(500));
    let mut buffer = Vec::new();
    read(&mut stream, &mut buffer).await?;
    match manners {
        Manners::Resets => stream.set_zero_linger().ok()?,
        Manners::Garbage => stream.write_all(&[0xff; 4_096]).await.ok()?,
        Manners::Streams => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
            loop {
                stream.write_all(&[b'x'; 8_192]).await.ok()?;
            }
        }
        Manners::Drips => loop {
            stream.write_all(b"H").await.ok()?;
            pause().await;
        },
        Manners::EndlessHead => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
            loop {
                stream.write_all(b"X-More: of the same\r\n").await.ok()?;
                pause().await;
            }
        }
        Manners::Stalls | Manners::Answers => loop {
            pause().await;
        },
    }
    Some(())
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// When a notification's event was published, after the beginning; none of a sync.
fn sent_at(body: &[u8]) -> Option<Duration> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body["data"]["sentAt"].as_u64().map(Duration::from_micros)
}

struct Figures {
    p50: Duration,
    p99: Duration,
    per_second: f64,
}

async fn run(hostile: bool) -> Figures {
    let server = Server::start(&[]);
    let begin = Instant::now();
    let arrivals = Arrivals::default();
    let client = reqwest::Client::new();
    for at in 0..RECEIVERS {
        let manners = if hostile && at % 2 == 1 { HOSTILE[at / 2 % HOSTILE.len()] } else { Manners::Answers };
        let counted = (at % 2 == 0).then(|| Arc::clone(&arrivals));
        let port = receive(manners, begin, counted).await;
        let channel = json!({ "id": format!("c{at}"), "resource": format!("bench/{at}"),
                              "address": format!("http://127.0.0.1:{port}/") });
        post(&client, &server, "/v1/channels", &channel).await;
    }
    let opened = begin.elapsed();
    let mut ticks = tokio::time::interval(EVERY);
    while begin.elapsed() < opened + LOAD {
        ticks.tick().await;
        let sent_at = u64::try_from(begin.elapsed().as_micros()).unwrap();
        let event = |at| json!({ "resource": format!("bench/{at}"), "name": "bench.tick", "data": { "sentAt": sent_at } });
        let events: Vec<Value> = (0..RECEIVERS).map(event).collect();
        post(&client, &server, "/v1/events", &json!({ "events": events })).await;
    }
    let counted = begin.elapsed().saturating_sub(WARM_UP);
    let mut latencies = std::mem::take(&mut *arrivals.lock().unwrap());
    latencies.sort_unstable();
    let quantile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    Figures {
        p50: quantile(50),
        p99: quantile(99),
        per_second: latencies.len() as f64 / counted.as_secs_f64(),
    }
}

async fn post(client: &reqwest::Client, server: &Server, path: &str, body: &Value) {
    let request = client.post(format!("{}{path}", server.url)).bearer_auth(&server.token);
    let request = request.header("content-type", "application/json").body(body.to_string());
    let answer = request.send().await.expect("the server answers");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
}

#[tokio::main]
async fn main() -> ExitCode {
    let (calm, stormy) = (run(false).await, run(true).await);
    for (name, figures) in [("all answer", &calm), ("half hostile", &stormy)] {
        println!(
            "{name:<14} p50 {:>7.2} ms   p99 {:>7.2} ms   {:>7.1} arrivals/s of the healthy half",
            figures.p50.as_secs_f64() * 1e3,
            figures.p99.as_secs_f64() * 1e3,
            figures.per_second
        );
    }
    let slower = stormy.p99.as_secs_f64() / calm.p99.as_secs_f64();
    let kept = stormy.per_second / calm.per_second;
    println!(
        "p99 × {slower:.2} (at most {P99_TIMES_MAX}), throughput × {kept:.2} (at least {THROUGHPUT_MIN})"
    );
    if slower <= P99_TIMES_MAX && kept >= THROUGHPUT_MIN {
        ExitCode::SUCCESS
    } else {
        println!("hostile receivers hurt the others");
        ExitCode::FAILURE
    }
}
