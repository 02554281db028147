//! A client of the native API, for commands that go through a server. Not a road to the outside: it talks to a
//! Watchpost server that the operator named, which is why it does not pass the egress policy.

use std::time::Duration;

use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the server at {base} cannot be reached")]
    Unreachable {
        base: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the server answered {status}: {detail}")]
    Refused { status: u16, detail: String },
    #[error("the server's answer is not JSON")]
    NotJson(#[source] serde_json::Error),
}

#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Client {
    #[expect(clippy::disallowed_methods, reason = "talks to a named Watchpost server, not to receivers")]
    pub fn new(base: &str, token: &str) -> Result<Self, ClientError> {
        let base = base.to_owned();
        let built = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TIMEOUT)
            .build();
        match built {
            Ok(http) => Ok(Self { http, base, token: token.to_owned() }),
            Err(source) => Err(ClientError::Unreachable { base, source }),
        }
    }

    /// Posts JSON (`null` is an empty body) and reads the JSON answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = if body.is_null() {
            request
        } else {
            request.header("Content-Type", "application/json").body(body.to_string())
        };
        self.send(request).await
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(self.http.delete(format!("{}{path}", self.base))).await.map(drop)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, ClientError> {
        let unreachable = |source| ClientError::Unreachable { base: self.base.clone(), source };
        let answer = request.bearer_auth(&self.token).send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(ClientError::Refused { status: status.as_u16(), detail: detail_of(text) });
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(ClientError::NotJson)
    }
}

/// What a problem says to people, or the answer as it is.
fn detail_of(answer: String) -> String {
    let problem: Option<Value> = serde_json::from_str(&answer).ok();
    problem.and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned())).unwrap_or(answer)
}
