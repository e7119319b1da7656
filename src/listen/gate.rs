//! What threads that wait for sockets with blocking calls are called off by.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
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
        self.wait_for_any(&[socket]).is_some()
    }

    /// As [`Gate::wait`], from one of several: which. None: the gate is closed.
    pub fn wait_for_any(&self, sockets: &[impl AsFd]) -> Option<usize> {
        loop {
            let all = std::iter::once(self.0.as_fd()).chain(sockets.iter().map(AsFd::as_fd));
            let mut polled: Vec<PollFd<'_>> =
                all.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)).collect();
            match poll(&mut polled, None) {
                // An error of a socket is for whoever reads from it to see.
                Ok(_) => match polled.iter().position(|polled| !polled.revents().is_empty()) {
                    Some(0) => return None,
                    Some(ready) => return Some(ready - 1),
                    None => {}
                },
                Err(rustix::io::Errno::INTR) => {}
                // Without memory the kernel cannot wait.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
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
