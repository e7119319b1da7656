//! What of the quotes there is to start, and to end: the socket, the snapshot, the thread that compresses.

use std::{
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nix::unistd::{User, geteuid};

use super::{Error, rights, start_error};
use crate::{
    config::Config,
    feed::quotes::{
        board::SharedBoard,
        snapshot::{self, Snapshot},
        socket::Feeders,
        table::Table,
    },
    listen::{Bound, Passed},
    store::{Store, quotes::improve::Improver},
};

/// A snapshot that is written on time and at the end.
pub(super) type SharedSnapshot = Arc<Mutex<Snapshot>>;

/// Listens for feeders, as whoever the server is about to become.
pub(super) fn listen(config: &Config, passed: &mut Vec<Passed>) -> Result<Option<Bound>, Error> {
    let Some(path) = &config.quotes.socket else { return Ok(None) };
    // Before anything that takes time.
    allowed(config)?;
    let owner = match &config.user {
        Some(name) => user(name)?.map(|user| (user.uid.as_raw(), user.gid.as_raw())),
        None => None,
    };
    let bound = Bound::for_feeders(path, owner, passed).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program, perhaps another cloudia, listens there, or it is no socket"
            }
            std::io::ErrorKind::NotFound => "its directory must be there",
            std::io::ErrorKind::PermissionDenied => "this user must be allowed to write its directory",
            _ => "it must be a path in a directory that this user can write, of at most 107 bytes",
        };
        Error::Start(format!("quotes.socket {}: {error}; {remedy}", path.display()))
    })?;
    Ok(Some(bound))
}

/// Takes in the snapshot.
pub(super) fn load_snapshot(config: &Config, board: &SharedBoard) -> Result<Option<SharedSnapshot>, Error> {
    let Some(path) = &config.quotes.snapshot else { return Ok(None) };
    let error = |reason: String| Error::Start(format!("quotes.snapshot {}: {reason}", path.display()));
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Only to write tells, for there is more that may forbid it than the rights of the directory.
    snapshot::try_to_write(path).map_err(|cause| {
        error(format!(
            "its directory cannot be written: {cause}; make it, or give this user the right to{}",
            rights::bound(&cause)
        ))
    })?;
    let data = config.data.canonicalize().unwrap_or_else(|_| config.data.clone());
    if directory.canonicalize().is_ok_and(|directory| directory.starts_with(data)) {
        return Err(error("it is below the data directory, where it would be served; name another place".to_owned()));
    }
    let snapshot = Snapshot::load(path.clone(), board.clone())
        .map_err(|cause| error(format!("it cannot be read: {cause}; mend or remove it")))?;
    Ok(Some(Arc::new(Mutex::new(snapshot))))
}

/// What goes on beside the workers.
pub(super) struct Quotes {
    board: SharedBoard,
    snapshot: Option<SharedSnapshot>,
    /// Where feeders connect, and who may.
    socket: Option<(OwnedFd, Vec<u32>)>,
    feeders: Mutex<Option<Feeders>>,
}

impl Quotes {
    /// Starts it, all but the feeders.
    pub(super) fn start(
        config: &Config,
        store: &Store,
        feeders: Option<&Bound>,
        board: SharedBoard,
        snapshot: Option<SharedSnapshot>,
    ) -> Result<Self, Error> {
        let improver = Improver::start().map_err(|error| start_error("the thread that compresses lists", &error))?;
        store.quotes().improve_with(improver);
        if let Some(snapshot) = snapshot.clone() {
            let keep = move || {
                loop {
                    std::thread::sleep(Snapshot::period());
                    lock(&snapshot).save();
                }
            };
            let thread = std::thread::Builder::new().name("snapshot".to_owned());
            thread.spawn(keep).map_err(|error| start_error("the snapshot thread", &error))?;
        }
        let socket = match feeders.and_then(|bound| bound.listeners.first()) {
            Some(socket) => Some((socket.try_clone().map_err(|error| failed(&error))?, allowed(config)?)),
            None => None,
        };
        Ok(Self { board, snapshot, socket, feeders: Mutex::default() })
    }

    /// Takes in what feeders have sent to another server, if they can go on with this one.
    pub(super) fn inherit(&self, fed: Vec<u8>) {
        let table = Table::parse(fed.into());
        if self.socket.is_some()
            && !table.is_empty()
            && let Err(error) = snapshot::take_in(&self.board, &table)
        {
            tracing::error!("what feeders have sent to the server before is gone: {error}");
        }
    }

    /// Listens to feeders.
    pub(super) fn open(&self) -> Result<(), Error> {
        self.board.lock().open();
        if let Some((socket, allowed)) = &self.socket {
            let listener = UnixListener::from(socket.try_clone().map_err(|error| failed(&error))?);
            let feeders = Feeders::start(listener, allowed.clone(), self.board.clone());
            *self.feeders() = Some(feeders.map_err(|error| failed(&error))?);
        }
        Ok(())
    }

    /// Takes nothing more from feeders, and keeps what they have sent: the next server may start as soon as this one has
    /// given the socket's name back.
    pub(super) fn close(&self) {
        if let Some(feeders) = self.feeders().take() {
            feeders.end();
        }
        self.board.lock().close();
        if let Some(snapshot) = &self.snapshot {
            lock(snapshot).save_at_the_end();
        }
    }

    /// What feeders have sent.
    pub(super) fn fed(&self) -> Vec<u8> {
        snapshot::fed(&self.board.lock())
    }

    fn feeders(&self) -> MutexGuard<'_, Option<Feeders>> {
        // Nothing in here is left by halves.
        self.feeders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: &std::io::Error) -> Error {
    start_error("the socket for feeders", error)
}

fn lock(snapshot: &SharedSnapshot) -> MutexGuard<'_, Snapshot> {
    // The file is replaced whole or not at all.
    snapshot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Root, this user, and those that are named.
fn allowed(config: &Config) -> Result<Vec<u32>, Error> {
    let mut allowed = vec![0, geteuid().as_raw()];
    for name in &config.quotes.feeders {
        let feeder = user(name)?;
        let feeder = feeder.ok_or_else(|| Error::Start(format!("quotes.feeders: there is no user {name:?}")))?;
        allowed.push(feeder.uid.as_raw());
    }
    Ok(allowed)
}

fn user(name: &str) -> Result<Option<User>, Error> {
    User::from_name(name).map_err(|cause| Error::Start(format!("the user {name:?} cannot be looked up: {cause}")))
}
