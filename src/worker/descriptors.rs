//! The table of descriptors that a worker has for itself.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use super::Setup;
use crate::listen::Listener;

/// Finds out whether a worker can have a table of descriptors of its own, and with it the whole limit.
pub fn probe_own_descriptors() -> bool {
    // SAFETY: no descriptor has this number, so nothing is closed.
    let probe = || unsafe { close_range(RawFd::MAX, RawFd::MAX) };
    std::thread::scope(|scope| scope.spawn(probe).join()).unwrap_or(false)
}

/// Gives this thread a descriptor table of its own, with the standard streams and what `setup` holds. Whether it has one.
///
/// In a table that threads share, every system call on a socket counts references to it with atomic operations; alone in
/// its table, a thread is spared them. That is 3 % of a request. And the descriptor limit holds for each table.
pub(super) fn own_descriptors(setup: &Setup) -> bool {
    let mut kept: Vec<RawFd> = setup.listeners.iter().map(|listener| listener.socket).collect();
    kept.push(setup.control.event().as_raw_fd());
    kept.sort_unstable();
    let mut own = true;
    let mut first = 3;
    for end in kept.into_iter().chain([RawFd::MAX]) {
        if first < end {
            // SAFETY: it closes descriptors, after it has given this thread a copy of the table in the same call, so none
            // that another thread uses. This thread uses none but the kept ones: it has only just begun, with `setup`.
            // Where the kernel does not know the flag (before 5.9), or forbids it, it closes nothing, and the table stays
            // shared.
            own &= unsafe { close_range(first, end - 1) };
        }
        first = first.max(end.saturating_add(1));
    }
    own
}

/// Closes the descriptors from `first` to `last` in a copy of the table that is this thread's own.
///
/// # Safety
/// This thread must not use them any more.
unsafe fn close_range(first: RawFd, last: RawFd) -> bool {
    // SAFETY: what it closes is in a table of this thread's own, and the caller does not use it.
    unsafe { libc::close_range(first as u32, last as u32, libc::CLOSE_RANGE_UNSHARE as i32) == 0 }
}

/// The listener for this thread to close: of its own table, or a second one of the table that all threads share.
pub(super) fn own_listener(listener: Listener, own: bool) -> io::Result<(OwnedFd, Listener)> {
    let socket = match own {
        // SAFETY: it is open, since `own_descriptors` has kept it, and in this thread's table nobody else owns it.
        true => unsafe { OwnedFd::from_raw_fd(listener.socket) },
        // SAFETY: the main thread keeps it open for as long as there are workers.
        false => unsafe { BorrowedFd::borrow_raw(listener.socket) }.try_clone_to_owned()?,
    };
    let socket_number = socket.as_raw_fd();
    Ok((socket, Listener { socket: socket_number, ..listener }))
}
