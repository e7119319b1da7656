//! What happened, counted.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

/// The counts of a thread, or of all together.
#[derive(Debug, Default)]
pub struct Counts {
    /// Actions done, and those that could not be done in time.
    pub acted: u64,
    pub skipped: u64,
    pub connected: u64,
    pub requests: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub answers: BTreeMap<u16, u64>,
    /// Requests and connections that came to nothing, by what became of them.
    pub failures: BTreeMap<&'static str, u64>,
    /// Connections that the server ended when nothing was asked, and those that were made anew.
    pub closed_by_server: u64,
    pub reset_by_server: u64,
    pub reconnects: u64,
    /// Connections at the end.
    pub open: u64,
    /// Of every answer, in microseconds.
    pub latencies: Vec<u32>,
}

impl Counts {
    /// An answer that took so long.
    pub fn answer(&mut self, status: u16, took: Duration) {
        *self.answers.entry(status).or_default() += 1;
        self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Something that came to nothing.
    pub fn fail(&mut self, how: &'static str) {
        *self.failures.entry(how).or_default() += 1;
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: Counts) {
        self.acted += other.acted;
        self.skipped += other.skipped;
        self.connected += other.connected;
        self.requests += other.requests;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.closed_by_server += other.closed_by_server;
        self.reset_by_server += other.reset_by_server;
        self.reconnects += other.reconnects;
        self.open += other.open;
        other.answers.into_iter().for_each(|(status, count)| *self.answers.entry(status).or_default() += count);
        other.failures.into_iter().for_each(|(how, count)| *self.failures.entry(how).or_default() += count);
        self.latencies.extend(other.latencies);
    }

    /// All of it, for the reader of the report.
    pub fn report(&mut self) -> Value {
        json!({
            "actions": self.acted,
            "actions_skipped": self.skipped,
            "connected": self.connected,
            "requests": self.requests,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "answers": self.answers.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "failed": self.failures.values().sum::<u64>(),
            "failures": self.failures,
            "closed_by_server": self.closed_by_server,
            "reset_by_server": self.reset_by_server,
            "reconnects": self.reconnects,
            "open": self.open,
            "latency_us": self.latency(),
        })
    }

    fn latency(&mut self) -> Value {
        self.latencies.sort_unstable();
        let Some(most) = self.latencies.last() else {
            return Value::Null;
        };
        let at = |share: f64| {
            // The smallest that so large a share does not exceed.
            let rank = (share * self.latencies.len() as f64).ceil() as usize;
            self.latencies[rank.clamp(1, self.latencies.len()) - 1]
        };
        json!({ "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": most })
    }
}
