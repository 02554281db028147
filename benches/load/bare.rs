//! The limit: what a bare reqwest loop sends to the same receiver on the same machine, with the same headers, the same
//! signature and as many requests in flight.

use std::time::Instant;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tokio::task::JoinSet;

use crate::receiver::Receiver;

const SECRET: &[u8; 32] = b"a secret as long as ours are all";

/// Requests a second.
pub(crate) async fn per_second(receiver: &Receiver, requests: u64, in_flight: u64, body_bytes: usize) -> f64 {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("watchpost/0.1.0")
        .tcp_nodelay(true)
        .pool_max_idle_per_host(usize::try_from(in_flight).unwrap())
        .build()
        .unwrap();
    let url = format!("http://{}/", receiver.address);
    receiver.forget();
    let begin = Instant::now();
    let mut senders = JoinSet::new();
    for sender in 0..in_flight {
        let (client, url) = (client.clone(), url.clone());
        let share = requests / in_flight + u64::from(sender < requests % in_flight);
        senders.spawn(async move {
            for number in 0..share {
                send(&client, &url, sender, number, body_bytes).await;
            }
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap();
    }
    requests as f64 / begin.elapsed().as_secs_f64()
}

async fn send(client: &reqwest::Client, url: &str, sender: u64, number: u64, body_bytes: usize) {
    let id = format!("msg_{sender:032x}_{number}");
    let body = vec![b'x'; body_bytes];
    let signature = {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(format!("{id}.1800000000.").as_bytes());
        mac.update(&body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    };
    let answer = client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", "1800000000")
        .header("webhook-signature", signature)
        .header("watchpost-event", "bench.tick")
        .header("watchpost-event-id", &id)
        .header("watchpost-sequence", number)
        .header("watchpost-attempt", "1")
        .header("watchpost-message", number)
        .header("watchpost-previous-message", number)
        .header("watchpost-channel-id", "c0")
        .body(body)
        .send()
        .await
        .expect("the receiver answers");
    assert!(answer.status().is_success());
}
