//! Channels that open while others publish: each gets exactly what was published after it, once and in order.

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    app::{TestApp, numbers},
    base::Kind,
    support::receiver::Receiver,
};

on_both!(watchers_and_publishers_race);

const RESOURCE: &str = "orders/17";
const PUBLISHERS: usize = 4;
const PUBLISHES: usize = 15;
const WATCHERS: usize = 3;
const CHANNELS_EACH: usize = 6;

async fn watchers_and_publishers_race(kind: Kind) {
    let app = std::sync::Arc::new(TestApp::start(kind).await);
    let receiver = std::sync::Arc::new(Receiver::start().await);
    let mut users = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let app = std::sync::Arc::clone(&app);
        users.spawn(async move {
            for at in 0..PUBLISHES {
                let id = format!("{publisher}-{at}");
                app.publish(json!({ "resource": RESOURCE, "name": "order.changed", "id": id })).await;
            }
        });
    }
    for watcher in 0..WATCHERS {
        let (app, receiver) = (std::sync::Arc::clone(&app), std::sync::Arc::clone(&receiver));
        users.spawn(async move {
            for at in 0..CHANNELS_EACH {
                let id = format!("c{watcher}-{at}");
                let address = receiver.url(&format!("/{id}"));
                app.open(json!({ "id": id, "resource": RESOURCE, "address": address })).await;
            }
        });
    }
    users.join_all().await;
    app.settle().await;

    let events = app.get(&format!("/v1/events?resource={RESOURCE}&limit=500")).await.json();
    let ids: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), PUBLISHERS * PUBLISHES);
    for watcher in 0..WATCHERS {
        for at in 0..CHANNELS_EACH {
            let path = format!("/c{watcher}-{at}");
            let received: Vec<_> =
                receiver.received().into_iter().filter(|request| request.path == path).collect();
            let sync = &received[0];
            assert_eq!(sync.event(), Some("watchpost.channel.sync"), "{path}");
            let opened_at = usize::try_from(sync.sequence().unwrap()).unwrap();
            let told: Vec<&str> = received[1..].iter().map(|request| request.event_id().unwrap()).collect();
            assert_eq!(told, &ids[opened_at..], "{path} opened at {opened_at}");
            assert_eq!(numbers(&received), (1..=received.len() as u64).collect::<Vec<_>>());
            let sequences: Vec<u64> = received.iter().map(|request| request.sequence().unwrap()).collect();
            assert_eq!(sequences, (opened_at as u64..=ids.len() as u64).collect::<Vec<_>>());
        }
    }
    assert_eq!(receiver.max_in_flight_of_any_channel(), 1);
}
