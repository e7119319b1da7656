//! Where the server listens: what it binds, and what it was passed.

use std::io;

use super::{
    Error, quotes,
    takeover::{Names, Predecessor},
};
use crate::{
    config::{Admin, Config},
    listen::{Address, Bound, Passed, Place},
};

/// Where a server listens.
pub(super) struct Sockets {
    pub(super) public: Vec<Bound>,
    pub(super) admin: Option<Bound>,
    pub(super) feeders: Option<Bound>,
}

impl Sockets {
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
    let found = if config.take_over { Predecessor::find(&config.listen)? } else { None };
    let predecessor = found.map(|(predecessor, sockets)| {
        passed.extend(sockets);
        predecessor
    });
    let mut bind = |address: &Address, flag, workers| {
        Bound::new(address, workers, &mut passed).map_err(|error| cannot_listen(address, &error, flag))
    };
    let admin = match config.admin {
        Admin::Off => None,
        Admin::At(address) => Some(bind(&Address::Tcp(address), "--admin", 1)?),
    };
    let mut public = Vec::new();
    for address in config.listen.iter().filter(|_| config.listen_is_set) {
        public.push(bind(address, "--listen", workers)?);
    }
    let feeders = quotes::listen(config, &mut passed)?;
    // Of the others, those that somebody meant this server to serve.
    let wanted: Vec<Address> = passed.iter().filter_map(|passed| wanted(passed, config)).collect();
    let default = if public.is_empty() && wanted.is_empty() { &config.listen[..] } else { &[] };
    for address in wanted.iter().chain(default) {
        // Several sockets may have one address; the first of them takes all.
        if !public.iter().any(|bound: &Bound| bound.address == *address) {
            let bound = Bound::new(address, workers, &mut passed);
            public.push(bound.map_err(|error| cannot_listen(address, &error, "--listen"))?);
        }
    }
    let names = Names::take(&public, &mut passed);
    Ok((Sockets { public, admin, feeders }, names, predecessor))
}

fn wanted(passed: &Passed, config: &Config) -> Option<Address> {
    match &passed.place {
        Place::At(address) if passed.is_public && (passed.lasts || !config.listen_is_set) => Some(address.clone()),
        _ => None,
    }
}

fn cannot_listen(address: &Address, error: &io::Error, flag: &str) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another program, perhaps another cloudia, listens there; stop it, or name another with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need root (which --user gives up again) or CAP_NET_BIND_SERVICE; or use {flag}")
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("this machine has no such address; name another with {flag}")
        }
        _ => format!("name another with {flag}"),
    };
    Error::Start(format!("cannot listen on {address}: {error}; {remedy}"))
}
