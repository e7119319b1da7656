//! Listening sockets: bound exclusively or taken over, then shared among the workers.

mod gate;
mod passed;
pub mod proxy;
pub mod trusted;

use std::{
    fmt, io,
    net::SocketAddr,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{fs::FileTypeExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use gate::Gate;
pub use passed::{Passed, Place, Role};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::limits::{BACKLOG, KERNEL_UNSENT};

/// Where to listen: `ADDR:PORT`, `[ADDR]:PORT` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("a path is missing behind unix:".to_owned()),
            Some(path) => Ok(Address::Unix(path.into())),
            None => text
                .parse()
                .map(Address::Tcp)
                .map_err(|_| format!("{text:?} is not ADDR:PORT such as 0.0.0.0:8080 (every address), 127.0.0.1:8080 or [::1]:8080, nor unix:/path")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket, by its number. It is open in the main thread's table of descriptors until the workers have ended.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// The number.
    pub socket: RawFd,
    /// Another process listens on it as well, so that it is not to be shut, nor its queue emptied, at the end.
    pub lasts: bool,
    /// Each connection begins with a header of the PROXY protocol.
    pub is_proxied: bool,
}

/// One address, and the listeners on it.
pub struct Bound {
    /// The address, with the port that was picked where 0 was asked for.
    pub address: Address,
    /// One for each worker, as a rule.
    pub listeners: Vec<OwnedFd>,
    /// Another process keeps them open, so that they are neither shut nor emptied at the end.
    pub lasts: bool,
    /// What they are for.
    pub role: Role,
    /// A Unix socket's name, while it is ours to remove.
    name: Mutex<Option<PathBuf>>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.remove_name();
    }
}

impl Bound {
    /// Listens on `address` with a listener for each of `workers`, those that were `passed` for it before all others.
    /// `defers`: a TCP connection is there to be accepted when its first bytes are, or after a second.
    ///
    /// The first socket is bound without `SO_REUSEPORT`, so that an address which anyone else uses, another cloudia
    /// included, is an error; only then is it opened to its siblings.
    ///
    /// # Errors
    /// Whatever the system says of the address, `AddrInUse` above all.
    pub fn new(
        address: &Address,
        role: Role,
        workers: usize,
        defers: bool,
        passed: &mut Vec<Passed>,
    ) -> io::Result<Self> {
        let passed = Passed::take(passed, &Place::At(address.clone()));
        if !passed.is_empty() {
            return Self::adopt(address.clone(), role, workers, defers, passed);
        }
        match address {
            Address::Tcp(address) => {
                let first = patiently(|| tcp(address, defers, false))?;
                let address = SocketAddr::try_from(rustix::net::getsockname(&first)?)?;
                sockopt::set_socket_reuseport(&first, true)?;
                let mut listeners = vec![first];
                for _ in 1..workers {
                    listeners.push(tcp(&address, defers, true)?);
                }
                Ok(Self { address: Address::Tcp(address), listeners, lasts: false, role, name: Mutex::default() })
            }
            Address::Unix(path) => {
                // As open as a port is. Who may connect is for the directory to say.
                let listener = patiently(|| unix(path, 0o666, BACKLOG))?;
                Ok(Self::unix(path, role, listener))
            }
        }
    }

    fn unix(path: &Path, role: Role, listener: OwnedFd) -> Self {
        let name = Mutex::new(Some(path.to_owned()));
        Self { address: Address::Unix(path.into()), listeners: vec![listener], lasts: false, role, name }
    }

    /// Listens on `passed`, all of them at `address`.
    fn adopt(address: Address, role: Role, workers: usize, defers: bool, passed: Vec<Passed>) -> io::Result<Self> {
        let lasts = passed.iter().any(|passed| passed.lasts);
        let mut listeners: Vec<OwnedFd> = passed.into_iter().map(|passed| passed.socket).collect();
        if let Address::Tcp(address) = &address {
            // A service manager may have its own mind (DeferAcceptSec=).
            let known = Some(defers).filter(|defers| *defers || !lasts);
            listeners.iter().try_for_each(|listener| set_for_connections(listener, known))?;
            // A sibling for each worker would be better, but they can share: whose they were may not be who we are.
            while !lasts && listeners.len() < workers {
                let Ok(listener) = tcp(address, defers, true) else { break };
                listeners.push(listener);
            }
        }
        Ok(Self { address, listeners, lasts, role, name: Mutex::default() })
    }

    /// Listens on the Unix socket `path` for feeders of quotes: this user and its group, or those of `owner`.
    ///
    /// # Errors
    /// As [`Bound::new`].
    pub fn for_feeders(path: &Path, owner: Option<(u32, u32)>, passed: &mut Vec<Passed>) -> io::Result<Self> {
        let address = Address::Unix(path.into());
        let passed = Passed::take(passed, &Place::At(address.clone()));
        if !passed.is_empty() {
            return Self::adopt(address, Role::Other, 1, false, passed);
        }
        let listener = patiently(|| {
            let listener = unix(path, 0o660, 16)?;
            if let Some((user, group)) = owner {
                // Not through a link: the directory may be another user's.
                std::os::unix::fs::lchown(path, Some(user), Some(group))?;
            }
            Ok(listener)
        })?;
        Ok(Self::unix(path, Role::Other, listener))
    }

    /// The listeners of worker `number` of so many: each has one at least, and each listener has a worker at least.
    pub fn listeners_of(&self, number: usize, workers: usize) -> impl Iterator<Item = Listener> {
        let count = self.listeners.len();
        let places = (number..count.max(workers)).step_by(workers);
        let is_proxied = self.role == Role::Proxied;
        places.map(move |place| {
            let socket = self.listeners[place % count].as_raw_fd();
            Listener { socket, lasts: self.lasts, is_proxied }
        })
    }

    /// A URL that reaches the address from this machine.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) if address.ip().is_unspecified() && address.is_ipv4() => {
                format!("http://127.0.0.1:{}/", address.port())
            }
            Address::Tcp(address) if address.ip().is_unspecified() => {
                format!("http://[::1]:{}/", address.port())
            }
            Address::Tcp(address) => format!("http://{address}/"),
            Address::Unix(_) => self.address.to_string(),
        }
    }

    /// It listens on every address that the machine has.
    pub fn is_everywhere(&self) -> bool {
        matches!(self.address, Address::Tcp(address) if address.ip().is_unspecified())
    }

    /// Removes a Unix socket's name, once: the next one of that name is another server's.
    pub fn remove_name(&self) {
        if let Some(path) = self.name().take() {
            // It may be gone already; nothing depends on it.
            let _ = std::fs::remove_file(path);
        }
    }

    /// A Unix socket that was taken over is ours from now on, and so is its name.
    pub fn claim_name(&self) {
        if let Address::Unix(path) = &self.address
            && !self.lasts
        {
            *self.name() = Some(path.clone());
        }
    }

    /// Leaves a Unix socket's name to whoever listens behind it from now on.
    pub fn leave_name(&self) {
        self.name().take();
    }

    fn name(&self) -> MutexGuard<'_, Option<PathBuf>> {
        // Nothing in here is left by halves.
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries for a moment where the address is in use: what a killed server leaves to the kernel takes some milliseconds to
/// clear away, the more so with io_uring.
fn patiently(bind: impl Fn() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let end = Instant::now() + Duration::from_millis(500);
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

fn tcp(address: &SocketAddr, defers: bool, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restart must not wait for the last connections' TIME_WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        // `0.0.0.0:80` and `[::]:80` can be given side by side.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    set_for_connections(&socket, Some(defers))?;
    rustix::net::bind(&socket, address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn unix(path: &Path, mode: u32, backlog: i32) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The name has its rights from the beginning; to change them afterwards could be through a link.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(!mode & 0o777));
    let bound = rustix::net::bind(&socket, &address).or_else(|error| {
        if error != rustix::io::Errno::ADDRINUSE || !is_abandoned(path) {
            return Err(error.into());
        }
        std::fs::remove_file(path)?;
        rustix::net::bind(&socket, &address).map_err(io::Error::from)
    });
    rustix::process::umask(mask);
    bound?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// A socket's name outlives a process that was killed; nobody answers behind it.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// What accepted sockets inherit, which spares system calls for each connection, and when there is something to accept.
fn set_for_connections(listener: &OwnedFd, defers: Option<bool>) -> io::Result<()> {
    sockopt::set_tcp_nodelay(listener, true)?;
    set_tcp(listener, libc::TCP_NOTSENT_LOWAT, KERNEL_UNSENT)?;
    match defers {
        // In seconds; 0 also takes back what the server before had set.
        Some(defers) => set_tcp(listener, libc::TCP_DEFER_ACCEPT, u32::from(defers)),
        None => Ok(()),
    }
}

/// Listens under a name that is in no file system, for messages that stay whole.
///
/// # Errors
/// `AddrInUse` when another process has the name.
pub fn named(name: &[u8]) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new_abstract_name(name)?;
    patiently(|| {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 16)?;
        Ok(socket)
    })
}

fn set_tcp(socket: &OwnedFd, option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, and the option's value is a `u32` that the call only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What came of an attempt to accept.
pub enum Accept {
    /// A connection, and whose it is, if that was asked for and it comes from anywhere.
    Connection(OwnedFd, Option<SocketAddr>),
    /// None is waiting.
    Empty,
    /// The connection that was waiting is gone; there may be others.
    Gone,
    /// There is no descriptor or no memory for it.
    Exhausted(io::Error),
    /// The listener is shut.
    Shut,
}

/// Accepts a connection that never blocks. `ask`: whose it is.
pub fn accept(listener: BorrowedFd<'_>, ask: bool) -> Accept {
    use rustix::io::Errno;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let accepted = match ask {
        true => rustix::net::acceptfrom_with(listener, flags),
        false => rustix::net::accept_with(listener, flags).map(|socket| (socket, None)),
    };
    match accepted {
        Ok((socket, peer)) => Accept::Connection(socket, peer.and_then(|peer| SocketAddr::try_from(peer).ok())),
        Err(Errno::AGAIN) => Accept::Empty,
        Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => Accept::Exhausted(error.into()),
        Err(Errno::INVAL | Errno::BADF | Errno::NOTSOCK) => Accept::Shut,
        // accept(2): errors that are pending on the new connection are reported here; it is lost, the listener is not.
        Err(_) => Accept::Gone,
    }
}
