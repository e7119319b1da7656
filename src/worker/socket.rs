//! Descriptors: those that the runtime waits for, and the sockets of connections.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};

use crate::{
    limits::SEND_SLICES,
    serve::{Socket, output::Output},
};

/// A descriptor whose readiness can be waited for, on either driver.
///
/// monoio offers that on its streams alone. Its Unix stream is the bare descriptor; its TCP stream caches two addresses,
/// 80 bytes a connection that nobody asks for.
pub struct Ready(monoio::net::UnixStream);

impl Ready {
    /// Hands the descriptor to this thread's driver.
    ///
    /// # Errors
    /// What the driver says to it.
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        monoio::net::UnixStream::from_std(UnixStream::from(descriptor)).map(Self)
    }

    /// Its number.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Ends when there is something to read.
    // Not relaxed: the epoll driver then asks the kernel again, for it does not see what is received past it.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
        self.0.readable(false)
    }
}

/// A socket that answers are sent to which were collected with those of others.
pub trait Endpoint: Socket {
    /// Hands the front of `bytes` to the kernel, as much as it takes at once, which may be nothing.
    ///
    /// # Errors
    /// When the connection is gone.
    fn send_bytes(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// The socket of a connection.
pub struct Stream(OwnedFd);

impl From<OwnedFd> for Stream {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Endpoint for Stream {
    fn send_bytes(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::net::send(self, bytes, SendFlags::NOSIGNAL) {
                Err(rustix::io::Errno::AGAIN) => return Ok(0),
                Err(rustix::io::Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }
}

impl Stream {
    /// As [`Socket::receive`], but what is received stays there.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (peeked, _) = rustix::net::recv(self, buffer, RecvFlags::PEEK)?;
        Ok(peeked)
    }
}

impl Socket for Stream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (received, _) = rustix::net::recv(self, buffer, RecvFlags::empty())?;
        Ok(received)
    }

    fn send(&self, output: &Output) -> io::Result<usize> {
        let sent = match output.contiguous() {
            Some(bytes) => rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?,
            None => {
                let mut slices = [io::IoSlice::new(&[]); SEND_SLICES];
                let slices = output.slices(&mut slices);
                let mut control = SendAncillaryBuffer::default();
                rustix::net::sendmsg(self, slices, &mut control, SendFlags::NOSIGNAL)?
            }
        };
        Ok(sent)
    }

    fn is_quiet(&self) -> bool {
        self.peek(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn shut_write(&self) {
        // It fails when the client is gone, which the next receive will tell.
        let _ = rustix::net::shutdown(self, Shutdown::Write);
    }

    fn shut(&self) {
        let _ = rustix::net::shutdown(self, Shutdown::Both);
    }

    fn forget_unsent(&self) {
        let mut unsent: libc::c_int = 0;
        // SAFETY: the descriptor is this one's own, so it is open, and the call writes one `int` to where it is told.
        let asked = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
        if asked != 0 || unsent > 0 {
            // The close is a reset then.
            let _ = rustix::net::sockopt::set_socket_linger(self, Some(Duration::ZERO));
        }
    }
}
