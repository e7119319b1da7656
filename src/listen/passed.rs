//! Listening sockets that another process made: the cloudia that ran before, or systemd.

use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::net::{SocketAddrUnix, SocketType, sockopt};

use super::Address;

/// A listening socket of another process.
#[derive(Debug)]
pub struct Passed {
    /// Where it listens.
    pub place: Place,
    /// The socket.
    pub socket: OwnedFd,
    /// Somebody besides this process and the one before it keeps it open.
    pub lasts: bool,
    /// What it was made for, as far as is known.
    pub role: Role,
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The data directory, for clients.
    Public,
    /// The data directory, for balancers that speak the PROXY protocol.
    Proxied,
    /// Something else.
    Other,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At an address.
    At(Address),
    /// Under a name of the network namespace that is in no file system.
    Named(Vec<u8>),
}

impl Place {
    /// The address, if it is one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Place::At(address) => Some(address),
            Place::Named(_) => None,
        }
    }
}

impl Passed {
    /// A listening stream socket.
    ///
    /// # Errors
    /// In words, when it is something else.
    pub fn new(socket: OwnedFd, lasts: bool, role: Role) -> Result<Self, String> {
        let kind = sockopt::socket_type(&socket).map_err(|_| "it is no socket".to_owned())?;
        if !sockopt::socket_acceptconn(&socket).unwrap_or(false) {
            return Err(
                if kind == SocketType::DGRAM { "it is a datagram socket" } else { "it does not listen" }.to_owned()
            );
        }
        let place = place(&socket).map_err(|error| format!("its address cannot be had: {error}"))?;
        let is_fit = kind == SocketType::STREAM || matches!(place, Place::Named(_));
        let place = Some(place).filter(|_| is_fit);
        let place = place.ok_or_else(|| "it is not of the kind stream".to_owned())?;
        // Others may accept from it as well, so that what was waiting is gone.
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| error.to_string())?;
        Ok(Self { place, socket, lasts, role })
    }

    /// Those that systemd has started this process with. To be called once, before the process opens anything.
    ///
    /// # Errors
    /// In words, when one of them is no listening stream socket.
    pub fn by_systemd() -> Result<Vec<Self>, String> {
        let sockets = sd_notify::listen_fds().map_err(|error| format!("LISTEN_FDS: {error}"))?;
        let adopt = |socket| {
            // SAFETY: whoever started this process gave it the socket under this number, for itself: LISTEN_PID says so.
            let socket = unsafe { OwnedFd::from_raw_fd(socket) };
            let number = socket.as_raw_fd();
            Self::new(socket, true, Role::Public)
                .map_err(|reason| format!("descriptor {number} of LISTEN_FDS: {reason}"))
        };
        sockets.map(adopt).collect()
    }

    /// Takes those at `place` out of `passed`.
    pub fn take(passed: &mut Vec<Self>, place: &Place) -> Vec<Self> {
        passed.extract_if(.., |passed| passed.place == *place).collect()
    }
}

fn place(socket: &OwnedFd) -> io::Result<Place> {
    let address = rustix::net::getsockname(socket)?;
    if let Ok(address) = SocketAddr::try_from(address.clone()) {
        return Ok(Place::At(Address::Tcp(address)));
    }
    let address = SocketAddrUnix::try_from(address)?;
    if let Some(name) = address.abstract_name() {
        return Ok(Place::Named(name.to_vec()));
    }
    let path = address.path().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Place::At(Address::Unix(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())).to_owned())))
}
