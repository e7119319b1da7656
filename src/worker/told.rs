//! Says in the log who was refused, and why.
//!
//! Here and nowhere else a word of `X-Forwarded-For` is heard, and only of proxies that are trusted.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::Worker;
use crate::{
    listen::trusted::Trusted,
    serve::{Desk, forwarded, refusals::Refusals},
};

/// As much of a request line as is shown.
const SHOWN: usize = 120;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// From there.
    Address(IpAddr),
    /// Through a Unix socket, where the rights of its directory have decided.
    #[default]
    Unix,
    /// By way of a balancer, from an address or a Unix socket, that does not say whose it is.
    Behind(Option<IpAddr>),
}

impl Peer {
    /// Of an accepted socket.
    pub fn of(peer: Option<SocketAddr>) -> Self {
        peer.map_or(Self::Unix, |peer| Self::Address(peer.ip()))
    }

    /// Nobody knows who speaks behind it.
    pub fn behind(self) -> Self {
        match self {
            Self::Address(balancer) => Self::Behind(Some(balancer)),
            Self::Unix => Self::Behind(None),
            Self::Behind(_) => self,
        }
    }

    /// What it says of others is believed.
    fn is_among(self, trusted: &Trusted) -> bool {
        match self {
            Self::Address(address) => trusted.contains(address),
            Self::Unix => true,
            Self::Behind(_) => false,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.to_canonical().fmt(f),
            Self::Unix => f.write_str("a Unix socket"),
            Self::Behind(None) => f.write_str("somebody behind a Unix socket"),
            Self::Behind(Some(balancer)) => write!(f, "somebody behind {}", balancer.to_canonical()),
        }
    }
}

/// Tells what `desk` has noted of a connection that came from `peer`.
pub(super) fn tell(desk: &Desk, trusted: &Trusted, peer: Peer) {
    let Some(refusal) = desk.refusals.as_ref().and_then(Refusals::take) else { return };
    let client = match peer.is_among(trusted) {
        true => forwarded::client(&refusal.head, |ip| trusted.contains(ip)),
        false => None,
    };
    let who = match client {
        Some(client) => format!("{client} through {peer}"),
        None => peer.to_string(),
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

impl Worker {
    /// Tells of a connection that was closed for what its balancer is, or said.
    pub(super) fn tell_of_proxy(&self, reason: &str, peer: Peer) {
        if self.desk.borrow().refusals.as_ref().is_some_and(Refusals::admits) {
            tracing::info!("{peer} is refused: {reason}");
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
