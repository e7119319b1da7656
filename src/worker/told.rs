//! Says in the log who was refused, and why.
//!
//! Here and nowhere else a word of `X-Forwarded-For` is heard, and only of proxies that are trusted.

use std::net::IpAddr;

use super::Worker;
use crate::{
    listen::trusted::Trusted,
    serve::{Desk, forwarded, refusals::Refusals},
};

/// As much of a request line as is shown.
const SHOWN: usize = 120;

/// Tells what `desk` has noted of a connection that came from `peer`, or, if that is None, through a Unix socket.
pub(super) fn tell(desk: &Desk, trusted: &Trusted, peer: Option<IpAddr>) {
    let Some(refusal) = desk.refusals.as_ref().and_then(Refusals::take) else { return };
    let is_trusted = peer.is_none_or(|peer| trusted.contains(peer));
    let client = if is_trusted { forwarded::client(&refusal.head, |ip| trusted.contains(ip)) } else { None };
    let who = match client {
        Some(client) => format!("{client} through {}", name(peer)),
        None => name(peer),
    };
    let line =
        refusal.head.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
    let status = refusal.status.text().trim_end();
    if line.is_empty() {
        tracing::info!("{who} is refused: {status}");
    } else {
        tracing::info!("{who} is refused: {status}, to {line:?}");
    }
}

fn name(peer: Option<IpAddr>) -> String {
    peer.map_or("a Unix socket".to_owned(), |peer| peer.to_canonical().to_string())
}

impl Worker {
    /// Tells of a connection that was closed for what its balancer is, or said.
    pub(super) fn tell_of_proxy(&self, reason: &str, peer: Option<IpAddr>) {
        if self.desk.borrow().refusals.as_ref().is_some_and(Refusals::admits) {
            tracing::info!("{} is refused: {reason}", name(peer));
        }
    }
}

/// A tick has begun: tells how many refusals of the last one were not told.
pub(super) fn begin_tick(desk: &Desk) {
    match desk.refusals.as_ref().map(Refusals::begin_tick) {
        None | Some(0) => {}
        Some(1) => tracing::info!("1 more is refused"),
        Some(more) => tracing::info!("{more} more are refused"),
    }
}
