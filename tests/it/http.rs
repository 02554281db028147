//! What the tests speak to a server with.

use serde_json::Value;

/// A plain HTTP client.
pub struct Http(reqwest::Client);

impl Http {
    #[expect(clippy::disallowed_methods, reason = "the tests are outside, and talk to loopback alone")]
    pub fn new() -> Self {
        Self(reqwest::Client::builder().no_proxy().build().unwrap())
    }

    pub async fn send(
        &self,
        method: &str,
        url: &str,
        token: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Answer {
        let method = method.parse::<reqwest::Method>().unwrap();
        let request = self
            .0
            .request(method, url)
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", content_type)
            .body(body);
        let response = request.send().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
        let status = response.status().as_u16();
        Answer { status, body: response.bytes().await.unwrap().to_vec() }
    }
}

/// What the server answered.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Google's reason for a refusal.
    pub fn reason(&self) -> String {
        self.json()["error"]["errors"][0]["reason"].as_str().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}
