//! One scenario's figures, as they are printed and reported.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::server::Used;

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub name: String,
    pub deliveries: u64,
    pub took: Duration,
    /// From the publish call to the arrival, sorted; empty where payloads do not go along.
    pub latencies: Vec<Duration>,
    pub used: Used,
    /// What a bare loop reaches in the same run.
    pub bare_per_second: Option<f64>,
    pub in_order: Option<bool>,
}

impl Row {
    pub(crate) fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.took.as_secs_f64()
    }

    /// CPU-seconds of the server for 1,000 deliveries.
    pub(crate) fn cpu_per_thousand(&self) -> f64 {
        self.used.cpu.as_secs_f64() * 1e3 / self.deliveries as f64
    }

    pub(crate) fn of_bare(&self) -> Option<f64> {
        Some(self.per_second() / self.bare_per_second?)
    }

    pub(crate) fn percentile_ms(&self, per_mille: usize) -> Option<f64> {
        let last = self.latencies.len().checked_sub(1)?;
        Some(self.latencies[last * per_mille / 1_000].as_secs_f64() * 1e3)
    }

    pub(crate) fn json(&self) -> Value {
        let percentile = |per_mille| self.percentile_ms(per_mille).map(rounded);
        json!({
            "scenario": self.name,
            "deliveries": self.deliveries,
            "perSecond": self.per_second().round(),
            "barePerSecond": self.bare_per_second.map(f64::round),
            "ofBare": self.of_bare().map(rounded),
            "cpuSecondsPer1000": rounded(self.cpu_per_thousand()),
            "latencyMs": { "p50": percentile(500), "p99": percentile(990), "p999": percentile(999) },
            "peakRssMiB": self.used.peak_rss_bytes / (1 << 20),
            "writtenBytesPerDelivery": self.used.written_bytes / self.deliveries.max(1),
            "inOrder": self.in_order,
        })
    }
}

fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}
