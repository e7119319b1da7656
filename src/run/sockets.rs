//! Where the server listens: what it binds, and what it was passed.

use std::{io, path::PathBuf};

use super::{
    Error, quotes, rights,
    takeover::{Names, Predecessor},
};
use crate::{
    config::{Admin, Config},
    listen::{Address, Bound, Passed, Place, Role},
};

/// Where a server listens.
pub(super) struct Sockets {
    pub(super) public: Vec<Bound>,
    pub(super) admin: Option<Bound>,
    pub(super) feeders: Option<Bound>,
    /// Names in the file system of sockets that were passed, and on which nobody listens any more.
    pub(super) unwanted: Vec<PathBuf>,
}

impl Sockets {
    /// What was passed is this server's from now on.
    pub(super) fn claim_names(&self) {
        self.all().for_each(Bound::claim_name);
        for path in &self.unwanted {
            // It may be gone already; nothing depends on it.
            let _ = std::fs::remove_file(path);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Bound> {
        self.public.iter().chain(&self.admin).chain(&self.feeders)
    }
}

/// Listens: on what was `passed`, or a server that is to be replaced passes, where that is wanted. With the names under which
/// this server can be replaced in its turn.
pub(super) fn bind(
    config: &Config,
    workers: usize,
    mut passed: Vec<Passed>,
) -> Result<(Sockets, Names, Option<Predecessor>), Error> {
    let activated: Vec<Address> = passed.iter().filter_map(|passed| passed.place.address()).cloned().collect();
    let found = match config.take_over {
        true => Predecessor::find(
            config.listen.iter().chain(&config.listen_proxy).chain(&activated),
            config.user.as_deref(),
        )?,
        false => None,
    };
    let predecessor = found.map(|(predecessor, sockets)| {
        passed.extend(sockets);
        predecessor
    });
    let mut bind = |address: &Address, role: Role| {
        let (flag, listeners) = match role {
            Role::Public => ("--listen", workers),
            Role::Proxied => ("--listen-proxy", workers),
            Role::Other => ("--admin", 1),
        };
        let address = picked(address, role, &passed);
        let bound = Bound::new(&address, role, listeners, config.defer_accept && role != Role::Other, &mut passed);
        bound.map_err(|error| cannot_listen(&address, &error, flag))
    };
    let admin = match config.admin {
        Admin::Off => None,
        Admin::At(address) => Some(bind(&Address::Tcp(address), Role::Other)?),
    };
    let mut public = Vec::new();
    for address in config.listen.iter().filter(|_| config.listen_is_set) {
        public.push(bind(address, Role::Public)?);
    }
    for address in &config.listen_proxy {
        public.push(bind(address, Role::Proxied)?);
    }
    let feeders = quotes::listen(config, &mut passed)?;
    // Of the others, those that somebody meant this server to serve.
    let wanted: Vec<Address> = passed.iter().filter_map(|passed| wanted(passed, config)).collect();
    let default = if public.is_empty() && wanted.is_empty() { &config.listen[..] } else { &[] };
    for address in wanted.iter().chain(default) {
        // Several sockets may have one address; the first of them takes all.
        if !public.iter().any(|bound: &Bound| bound.address == *address) {
            let bound = Bound::new(address, Role::Public, workers, config.defer_accept, &mut passed);
            public.push(bound.map_err(|error| cannot_listen(address, &error, "--listen"))?);
        }
    }
    let names = Names::take(&public, &mut passed);
    let unwanted = passed.iter().filter(|passed| !passed.lasts).filter_map(|passed| match &passed.place {
        Place::At(Address::Unix(path)) => Some(path.clone()),
        _ => None,
    });
    let unwanted = unwanted.collect();
    Ok((Sockets { public, admin, feeders, unwanted }, names, predecessor))
}

/// The address that a server which is replaced had picked for one whose port is 0, where it passes that.
fn picked(address: &Address, role: Role, passed: &[Passed]) -> Address {
    let Address::Tcp(asked) = address else { return address.clone() };
    let is_that = |passed: &&Passed| {
        let had = passed.place.address();
        passed.role == role && matches!(had, Some(Address::Tcp(had)) if had.ip() == asked.ip())
    };
    let place = passed.iter().find(|passed| asked.port() == 0 && is_that(passed)).map(|passed| &passed.place);
    place.and_then(Place::address).unwrap_or(address).clone()
}

fn wanted(passed: &Passed, config: &Config) -> Option<Address> {
    let is_wanted = passed.role == Role::Public && (passed.lasts || !config.listen_is_set);
    passed.place.address().filter(|_| is_wanted).cloned()
}

fn cannot_listen(address: &Address, error: &io::Error, flag: &str) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program, perhaps another cloudia, listens there; stop it, or name another with {flag}")
        }
        io::ErrorKind::PermissionDenied if matches!(address, Address::Unix(_)) => {
            format!("this user must be allowed to write its directory; or name another with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need root (which --user gives up again) or CAP_NET_BIND_SERVICE; or use {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; name another with {flag}")
        }
        _ => format!("name another with {flag}"),
    };
    Error::Start(format!("cannot listen on {address}: {error}; {remedy}{}", rights::bound(error)))
}
