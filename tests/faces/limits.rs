//! Callers that ask too often, and guesses: at claim URLs and at credentials, also behind proxies.

use std::time::Duration;

use crate::{
    http::{Answer, Ask},
    server::TestServer,
};

/// Far more than the burst of 2, within far less than it takes to fill the bucket that often.
const ASKED: usize = 20;

async fn asked_often(server: &TestServer, method: &str, target: &str, token: &str) -> Answer {
    for _ in 0..ASKED {
        let answer = server.ask(method, target).token(token).send().await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("{target} is not limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_asks_too_often_has_to_wait() {
    let server = TestServer::sqlite_with(&[("REQUEST_RATE", "1/s")]).await;
    let token = server.token("p", "s", "channels");
    let answer = asked_often(&server, "GET", "/v1/channels", &token).await;
    assert_eq!(answer.problem(), (429, "tooManyRequests".into(), None));
    assert!(answer.head.lines().any(|line| line.starts_with("retry-after: ")), "{answer:?}");
    let other = server.ask("GET", "/v1/channels").token(&server.token("p", "t", "channels")).send().await;
    assert_eq!(other.status, 200, "others are not concerned");
    let elsewhere = server.ask("GET", "/v1/channels").token(&server.token("q", "s", "channels")).send().await;
    assert_eq!(elsewhere.status, 200, "nor is another project's");
    // Another credential is the same caller, and so is the other face.
    let again = server.token("p", "s", "channels events");
    let answer = asked_often(&server, "POST", "/a/b/watch", &again).await;
    assert_eq!(answer.google(), (429, "rateLimitExceeded".into(), "Rate Limit Exceeded".into()));
    assert!(answer.head.lines().any(|line| line.starts_with("retry-after: ")), "{answer:?}");
    server.stop().await;
}

fn waits(answer: &Answer) -> bool {
    answer.head.lines().any(|line| line.starts_with("retry-after: "))
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_run_out_and_valid_ones_do_not() {
    let server = TestServer::sqlite().await;
    let from = |ask: Ask| ask.header("X-Forwarded-For", "192.0.2.1");
    let native = |token: &str| from(server.ask("GET", "/v1/channels")).token(token).send();
    let google = |token: &str| from(server.ask("POST", "/a/b/watch")).token(token).body("{}").send();
    let key = format!("wpk_{}", "A".repeat(43));
    for _ in 0..15 {
        assert_eq!(native("wrong").await.status, 401);
        assert_eq!(google(&key).await.status, 401);
    }
    let refused = native(&key).await;
    assert_eq!(refused.problem(), (429, "tooManyRequests".into(), None));
    assert!(waits(&refused), "{refused:?}");
    let refused = google("wrong").await;
    assert_eq!(refused.google().1, "rateLimitExceeded");
    assert!(waits(&refused), "{refused:?}");

    let token = server.token("p", "s", "channels");
    assert_eq!(native(&token).await.status, 200, "whoever has one is not concerned");
    assert_eq!(google(&token).await.status, 400, "nor on the other face");
    let expired = server.token_for("p", "s", "channels", &[], Duration::from_hours(2));
    assert_eq!(native(&expired).await.problem().1, "credentialsInvalid", "it was right once");
    let missing = from(server.ask("GET", "/v1/channels")).send().await;
    assert_eq!(missing.problem().1, "credentialsMissing", "nothing is no guess");
    assert_eq!(server.ask("GET", "/v1/channels").token("wrong").send().await.status, 401, "from elsewhere");
    server.stop().await;
}

/// The status of a wrong claim URL that `forwarded` is said to ask for.
async fn guess(server: &TestServer, forwarded: &str) -> u16 {
    let target = format!("/claims/{}", "0".repeat(75));
    server.ask("GET", &target).header("X-Forwarded-For", forwarded).send().await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_count_against_whom_a_trusted_proxy_names() {
    let trusting = TestServer::sqlite_with(&[("TRUSTED_PROXIES", "127.0.0.0/8,::1")]).await;
    let plain = TestServer::sqlite_with(&[("TRUSTED_PROXIES", "")]).await;
    for server in [&trusting, &plain] {
        for _ in 0..20 {
            assert_eq!(guess(server, "1.1.1.1, 192.0.2.1").await, 404);
        }
        assert_eq!(
            guess(server, "2.2.2.2, 192.0.2.1").await,
            429,
            "what stands further left is the client's own word"
        );
    }
    assert_eq!(guess(&trusting, "192.0.2.2").await, 404, "another client of the proxy");
    assert_eq!(guess(&plain, "192.0.2.2").await, 429, "whoever is not trusted speaks for themselves");
    trusting.stop().await;
    plain.stop().await;
}
