//! How many connections there may be: of all workers, and of one client.
//!
//! It is written when a connection opens or closes, never for a request.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::PoisonError,
};

use crate::{
    limits::BUDGET_SHARDS,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The connections of all workers, counted.
pub struct Budget {
    open: AtomicUsize,
    max: usize,
    clients: Option<Clients>,
}

/// Whose connection it is: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(u64);

/// The connections of each client that has any.
struct Clients {
    shards: Box<[Mutex<HashMap<Client, u32, ahash::RandomState>>]>,
    max: u32,
}

impl Budget {
    /// At most `max` connections, and `max_per_client` of one client.
    pub fn new(max: usize, max_per_client: Option<u32>) -> Self {
        let clients =
            max_per_client.map(|max| Clients { shards: (0..BUDGET_SHARDS).map(|_| Mutex::default()).collect(), max });
        Self { open: AtomicUsize::new(0), max, clients }
    }

    /// Clients are told from each other.
    pub fn counts_clients(&self) -> bool {
        self.clients.is_some()
    }

    /// Counts one more, if there may be one.
    pub fn take(&self) -> bool {
        let within = self.open.fetch_add(1, Ordering::Relaxed) < self.max;
        if !within {
            self.give_back();
        }
        within
    }

    /// Counts one less.
    pub fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one more of `client`, if it may have one.
    pub fn take_of(&self, client: Client) -> bool {
        let Some(clients) = &self.clients else { return true };
        let mut counts = clients.shard(client);
        let count = counts.entry(client).or_default();
        let within = *count < clients.max;
        *count += u32::from(within);
        within
    }

    /// Counts one less of `client`.
    pub fn give_back_of(&self, client: Client) {
        let Some(clients) = &self.clients else { return };
        let mut counts = clients.shard(client);
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

impl Clients {
    fn shard(&self, client: Client) -> MutexGuard<'_, HashMap<Client, u32, ahash::RandomState>> {
        // The low bits tell the clients of one network apart.
        let shard = &self.shards[client.0 as usize % BUDGET_SHARDS];
        // Nothing in here is left by halves.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Who connects from `address`.
    pub fn of(address: SocketAddr) -> Self {
        /// A multicast prefix, from which nobody connects.
        const V4: u64 = 0xffff_ffff << 32;
        match address.ip().to_canonical() {
            IpAddr::V4(address) => Self(V4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Client {
        Client::of(SocketAddr::new(address.parse().unwrap(), 1))
    }

    #[test]
    fn who_is_one_client() {
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_ne!(client("0.0.0.0"), client("::1"));
    }

    #[test]
    fn places_come_back() {
        let budget = Budget::new(2, Some(1));
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(client);
        assert!(budget.take_of(one) && !budget.take_of(one) && budget.take_of(other));
        budget.give_back_of(one);
        assert!(budget.take_of(one));
        assert!(budget.take() && budget.take() && !budget.take());
        budget.give_back();
        assert!(budget.take());
        [one, other].into_iter().for_each(|client| budget.give_back_of(client));
        let clients = budget.clients.as_ref().unwrap();
        assert!(clients.shards.iter().all(|shard| shard.lock().unwrap().is_empty()), "nobody is left");
    }
}
