//! What happened, counted.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::latency::Latencies;

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
    /// Of every answer.
    pub latencies: Latencies,
    pub browse: Browse,
}

/// What browsers count besides.
#[derive(Debug, Default)]
pub struct Browse {
    /// From the first step of a connection to its last.
    pub connects: Latencies,
    /// Requests that were sent again, since the server had closed the connection when they came.
    pub retries: u64,
    /// Bytes of bodies that have come, and those that would have if a 304 had been a 200.
    pub body_bytes: u64,
    pub saved_bytes: u64,
    /// Requests that had no answer at the end, and the longest that one of them had waited.
    pub unanswered: u64,
    pub waited: Duration,
}

impl Counts {
    /// An answer that took so long.
    pub fn answer(&mut self, status: u16, took: Duration) {
        *self.answers.entry(status).or_default() += 1;
        self.latencies.add(took);
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
        self.latencies.merge(other.latencies);
        self.browse.connects.merge(other.browse.connects);
        self.browse.retries += other.browse.retries;
        self.browse.body_bytes += other.browse.body_bytes;
        self.browse.saved_bytes += other.browse.saved_bytes;
        self.browse.unanswered += other.browse.unanswered;
        self.browse.waited = self.browse.waited.max(other.browse.waited);
    }

    /// Answers of all kinds.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// All of it, for the reader of the report.
    pub fn report(&self) -> Value {
        json!({
            "actions": self.acted,
            "actions_skipped": self.skipped,
            "connected": self.connected,
            "requests": self.requests,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "answers": self.answers.iter().map(|(status, count)| (status.to_string(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "failed": self.failed(),
            "failures": self.failures,
            "closed_by_server": self.closed_by_server,
            "reset_by_server": self.reset_by_server,
            "reconnects": self.reconnects,
            "open": self.open,
            "latency_us": self.latencies.report(),
        })
    }
}
