//! One server replaces another without a trace.
//!
//! A server listens under a name for each of its addresses, in the network namespace and in no file system. The one that is to
//! replace it connects there, is passed the listening sockets, and loads; then it asks for the [`State`], starts its workers,
//! and says so. Until then the first serves on, and if the second ends before that, nothing has happened. Both accept from the
//! same sockets for a moment, and none is ever shut, so no connection is lost in between.

mod state;
mod wire;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
pub(super) use state::State;
use wire::Wire;

use super::{Error, events::Event, quotes::Quotes, sockets::Sockets, start_error};
use crate::{
    feed::Inquiry,
    listen::{self, Address, Bound, Gate, Passed, Place, Role},
    worker::Control,
};

/// What both sides speak. Another number is another language.
const HELLO: &str = "take-over 1";

/// How long the other side may think about an answer that it should have.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the feed may take to answer: a look at a hundred thousand files takes less than a second.
const FEED_PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever connects may take to say what it wants.
const HELLO_PATIENCE: Duration = Duration::from_secs(1);

/// How long a worker may take to do what it is told.
const WORKER_PATIENCE: Duration = Duration::from_secs(1);

/// Says to a server that it replaces the process of this number, whatever its addresses.
pub(super) const REPLACES: &str = "CLOUDIA_REPLACES";

/// The name under which a server of `address` can be taken over.
fn name(address: &Address) -> Vec<u8> {
    let address = match address {
        Address::Tcp(_) => address.to_string(),
        Address::Unix(path) => std::path::absolute(path).as_deref().unwrap_or(path).display().to_string(),
    };
    let name = format!("cloudia/take-over/{address}").into_bytes();
    // A name has 107 bytes at the most.
    if name.len() <= 100 {
        name
    } else {
        format!("cloudia/take-over/{:016x}", xxhash_rust::xxh3::xxh3_64(&name)).into_bytes()
    }
}

/// How a role is told.
fn word(role: Role) -> &'static str {
    match role {
        Role::Public => "public",
        Role::Proxied => "proxied",
        Role::Other => "other",
    }
}

fn name_of_process(number: u32) -> Vec<u8> {
    format!("cloudia/take-over/process/{number}").into_bytes()
}

/// Root, and the user that this process runs as: who may replace it. It may replace a server of those, and of the user that it
/// is about to become.
fn is_trusted(socket: impl AsFd, user: Option<&str>) -> bool {
    let user = user.and_then(|name| nix::unistd::User::from_name(name).ok()?).map(|user| user.uid);
    let trusted = [Some(nix::unistd::Uid::from_raw(0)), Some(nix::unistd::geteuid()), user];
    getsockopt(&socket.as_fd(), PeerCredentials)
        .is_ok_and(|peer| trusted.contains(&Some(nix::unistd::Uid::from_raw(peer.uid()))))
}

/// The server that is to be replaced.
pub(super) struct Predecessor {
    wire: Wire,
    /// Its process.
    pub(super) process: String,
}

impl Predecessor {
    /// Looks for a server of any of `addresses`. What it passes, or None if there is no server.
    ///
    /// # Errors
    /// When there is one that cannot or may not be replaced.
    pub(super) fn find<'a>(
        addresses: impl Iterator<Item = &'a Address>,
        user: Option<&str>,
    ) -> Result<Option<(Self, Vec<Passed>)>, Error> {
        let parent = std::env::var(REPLACES).ok().and_then(|number| number.parse().ok());
        let names = parent.map(name_of_process).into_iter().chain(addresses.map(name));
        for name in names {
            match connect(&name) {
                Ok(wire) => return Self::ask(wire, user).map(Some),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(Error::Start(format!("--take-over: {error}"))),
            }
        }
        Ok(None)
    }

    fn ask(wire: Wire, user: Option<&str>) -> Result<(Self, Vec<Passed>), Error> {
        if !is_trusted(wire.socket(), user) {
            let reason = "what listens there belongs to another user: run this as that user or as root";
            return Err(Error::Start(format!("--take-over: {reason}")));
        }
        let mut predecessor = Self { wire, process: "before".to_owned() };
        let mut passed = Vec::new();
        predecessor.wire.set_patience(Some(PATIENCE)).map_err(|error| predecessor.failed(&error))?;
        // Where it fails, there is an answer why.
        let _ = predecessor.wire.send(HELLO, &[]);
        loop {
            let (line, sockets) = predecessor.wire.receive().map_err(|error| predecessor.failed(&error))?;
            if let Some(process) = line.strip_prefix("end ") {
                predecessor.process = process.to_owned();
                return Ok((predecessor, passed));
            }
            let words: Vec<&str> = line.split(' ').collect();
            if words.first() != Some(&"listen") {
                return Err(predecessor.refused(&line));
            }
            for socket in sockets {
                let role = [Role::Public, Role::Proxied].into_iter().find(|role| words.contains(&word(*role)));
                let socket = Passed::new(socket, words.contains(&"lasting"), role.unwrap_or(Role::Other));
                passed.push(socket.map_err(|reason| predecessor.refused(&reason))?);
            }
        }
    }

    /// Asks for what it knows; from now on it waits. None: it is gone.
    ///
    /// # Errors
    /// When it refuses, or says nothing.
    pub(super) fn take(&self) -> Result<Option<State>, Error> {
        let answer = self.wire.send("take", &[]).and_then(|()| self.wire.receive());
        match answer {
            Ok((line, memory)) if line == "state" => {
                let memory = memory.into_iter().next().ok_or_else(|| self.refused("no state"))?;
                State::read(memory).map(Some).map_err(|error| self.failed(&error))
            }
            Ok((line, _)) => Err(self.refused(&line)),
            Err(error) if is_end(&error) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Tells it that it is replaced. Its process.
    ///
    /// # Errors
    /// When it has not waited for that, and goes on.
    pub(super) fn done(self) -> Result<String, Error> {
        let is_told = self.wire.send("done", &[]).is_ok();
        // If it is gone it need not know.
        if is_told || !self.goes_on() { Ok(self.process) } else { Err(self.refused("it has not waited, and goes on")) }
    }

    /// Whether it answers. A process that is about to end may still be connected to.
    fn goes_on(&self) -> bool {
        let Ok(number) = self.process.parse() else { return false };
        let answer = connect(&name_of_process(number)).and_then(|wire| {
            wire.set_patience(Some(PATIENCE))?;
            wire.send(HELLO, &[])?;
            wire.receive()
        });
        match answer {
            Ok(_) => true,
            Err(error) => !is_end(&error) && error.kind() != io::ErrorKind::ConnectionRefused,
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        let reason = match error.kind() {
            _ if is_end(error) => "has ended".to_owned(),
            io::ErrorKind::WouldBlock => "does not answer; it may be handing over to another one already".to_owned(),
            _ => format!("cannot be taken over: {error}"),
        };
        Error::Start(format!("--take-over: the process {} {reason}", self.process))
    }

    fn refused(&self, reason: &str) -> Error {
        Error::Start(format!("--take-over: the process {} cannot be taken over: {reason}", self.process))
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn connect(name: &[u8]) -> io::Result<Wire> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Wire::new(socket)
}

/// What there is to hand over.
pub(super) struct Estate {
    pub(super) sockets: Arc<Sockets>,
    pub(super) quotes: Arc<Quotes>,
    pub(super) feed: Inquiry,
    pub(super) workers: Vec<Arc<Control>>,
    pub(super) events: Sender<Event>,
}

impl Estate {
    /// What a successor must know. From then on nothing comes from feeders, and nobody is accepted: who connects waits for the
    /// successor, and does not find less here than it had there. None: it cannot be had.
    fn state(&self) -> Option<State> {
        self.pause();
        self.quotes.close();
        Some(State { stamps: self.feed.leave(FEED_PATIENCE)?, fed: self.quotes.fed() })
    }

    /// The successor has ended after all.
    fn keep(&self) {
        self.feed.stay();
        self.workers.iter().for_each(|worker| worker.pause(false));
        if let Err(error) = self.quotes.open() {
            tracing::error!("feeders are no longer heard: {error}");
        }
    }

    /// The successor serves.
    fn leave(&self, successor: i32) {
        // The main thread may be past caring.
        let _ = self.events.send(Event::HandedOver(successor));
    }

    /// Lets the workers accept nothing, and waits until they do.
    fn pause(&self) {
        self.workers.iter().for_each(|worker| worker.pause(true));
        let end = Instant::now() + WORKER_PATIENCE;
        while !self.workers.iter().all(|worker| worker.has_paused()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The names under which a server can be taken over.
pub(super) struct Names(Vec<OwnedFd>);

impl Names {
    /// Takes the names that go with `public`, those that were `passed` first.
    pub(super) fn take(public: &[Bound], passed: &mut Vec<Passed>) -> Self {
        let names = public.iter().map(|bound| name(&bound.address)).chain([name_of_process(std::process::id())]);
        let listener = |name: Vec<u8>| {
            let handed_over = Passed::take(passed, &Place::Named(name.clone())).pop().map(|passed| passed.socket);
            let listener = handed_over.map_or_else(|| listen::named(&name), Ok);
            let tell = |error: &io::Error| {
                let name = String::from_utf8_lossy(&name);
                tracing::warn!("--take-over will not find this server under the name @{name}: {error}");
            };
            listener.inspect_err(tell).ok()
        };
        Self(names.filter_map(listener).collect())
    }

    /// Waits for a successor, on a thread of its own, until `gate` closes. `passing` is true while one has the sockets.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn wait(self, estate: Estate, gate: Arc<Gate>, passing: Arc<AtomicBool>) -> Result<(), Error> {
        let wait = move || {
            while let Some(name) = gate.wait_for_any(&self.0) {
                if accept(&self.0[name]).is_some_and(|wire| self.offer(&wire, &estate, &passing)) {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("take-over".to_owned()).spawn(wait);
        thread.map(drop).map_err(|error| start_error("the take-over thread", &error))
    }

    /// Hands over to whoever is at the other end, if it may and does. Whether it did.
    fn offer(&self, wire: &Wire, estate: &Estate, passing: &AtomicBool) -> bool {
        // Whoever it is: an answer gets lost behind what it has said and nobody has heard.
        let _ = wire.set_patience(Some(HELLO_PATIENCE));
        let Ok((hello, _)) = wire.receive() else { return false };
        if !is_trusted(wire.socket(), None) {
            let _ = wire.send("only root and the user of this server may replace it", &[]);
            return false;
        }
        if hello != HELLO {
            let _ = wire.send("it is of another version that cannot pass its sockets to this one", &[]);
            return false;
        }
        passing.store(true, Ordering::Release);
        let done = self.pass(wire, estate).and_then(|()| converse(wire, estate));
        match done {
            // 0, where it is in another PID namespace.
            Ok(()) => estate.leave(getsockopt(&wire.socket(), PeerCredentials).map_or(0, |peer| peer.pid())),
            Err(error) => {
                passing.store(false, Ordering::Release);
                tracing::warn!("nothing was handed over, this server goes on: {error}");
                return false;
            }
        }
        true
    }

    fn pass(&self, wire: &Wire, estate: &Estate) -> io::Result<()> {
        let Sockets { public, admin, feeders, .. } = &*estate.sockets;
        for bound in public.iter().chain(admin).chain(feeders) {
            let (role, lasting) = (word(bound.role), if bound.lasts { " lasting" } else { "" });
            for socket in &bound.listeners {
                wire.send(&format!("listen {role}{lasting}"), &[socket.as_fd()])?;
            }
        }
        self.0.iter().try_for_each(|name| wire.send("listen", &[name.as_fd()]))?;
        wire.send(&format!("end {}", std::process::id()), &[])
    }
}

fn accept(name: &OwnedFd) -> Option<Wire> {
    // Another process that has the same socket may have been faster.
    let socket = rustix::net::accept_with(name, SocketFlags::CLOEXEC).ok()?;
    Wire::new(socket).ok()
}

fn converse(wire: &Wire, estate: &Estate) -> io::Result<()> {
    let expect = |expected: &str| match wire.receive() {
        Ok((line, _)) if line == expected => Ok(()),
        Ok((line, _)) => Err(io::Error::other(format!("the new one said {line:?}"))),
        Err(error) if is_end(&error) => Err(io::Error::other("the new one has ended")),
        Err(error) => Err(error),
    };
    // Loading takes as long as it takes.
    wire.set_patience(None)?;
    expect("take")?;
    let handed_over = give(wire, estate).and_then(|()| {
        wire.set_patience(Some(PATIENCE))?;
        expect("done")
    });
    if handed_over.is_err() {
        estate.keep();
    }
    handed_over
}

fn give(wire: &Wire, estate: &Estate) -> io::Result<()> {
    match estate.state() {
        Some(state) => wire.send("state", &[state.write()?.as_fd()]),
        None => {
            let _ = wire.send("its feed does not answer", &[]);
            Err(io::Error::other("the feed does not answer"))
        }
    }
}

/// The program that a successor is started from: the file that this one was, or what has been put in its place.
pub(super) fn start_successor(program: &Path) -> io::Result<std::process::Child> {
    std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env("CLOUDIA_TAKE_OVER", "true")
        .env(REPLACES, std::process::id().to_string())
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .spawn()
}
