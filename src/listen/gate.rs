//! What threads that wait for sockets with blocking calls are called off by.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

/// Open at first. Those who wait at it for a socket stop when it is closed, however many they are.
pub struct Gate(OwnedFd);

impl Gate {
    /// An open gate.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Waits until there is something to read, or to accept, from `socket`. False: the gate is closed.
    pub fn wait(&self, socket: impl AsFd) -> bool {
        loop {
            let mut both = [PollFd::new(&self.0, PollFlags::IN), PollFd::new(&socket, PollFlags::IN)];
            match poll(&mut both, None) {
                Ok(_) if !both[0].revents().is_empty() => return false,
                Ok(_) | Err(rustix::io::Errno::INTR) if both[1].revents().is_empty() => {}
                // An error of the socket is for whoever reads from it to see.
                _ => return true,
            }
        }
    }

    /// Closes it.
    pub fn close(&self) {
        // It fails only when the counter is full, and then it is closed.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Opens it again.
    pub fn open(&self) {
        // It fails only when nothing has closed it.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}
