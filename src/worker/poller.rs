//! Which connections are ready: their sockets in one epoll instance, which the runtime waits for as for one descriptor.
//!
//! A request then costs no arming of a wait and no future, and a connection that waits holds nothing but its slot. Level-triggered, so
//! that nothing is missed whatever was left in a socket.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    time::Timespec,
};

use super::slots::Slot;
use crate::{limits::READY_AT_ONCE, serve::Wait};

/// What is to be heard of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interest {
    /// Nothing, not even that it has broken.
    #[default]
    Nothing,
    /// That there is something to receive.
    Readable,
    /// That there is room to send.
    Writable,
}

impl Interest {
    /// What tells that a wait is over.
    fn of(wait: Wait) -> Self {
        match wait {
            Wait::Readable => Self::Readable,
            // For its turn a connection queues behind all that is ready, in a socket that has room.
            Wait::Writable | Wait::Others => Self::Writable,
            Wait::Inflated | Wait::Closed => Self::Nothing,
        }
    }
}

/// The sockets of a worker's connections.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: RefCell<Vec<Event>>,
}

impl Poller {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: RefCell::new(Vec::with_capacity(READY_AT_ONCE)),
        })
    }

    /// A descriptor that is readable when one of the sockets is ready.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Hears of the socket of connection `id` what tells that its wait is over. A socket that is closed is forgotten.
    ///
    /// # Errors
    /// When the kernel has no room to note it.
    pub fn watch<S: AsFd>(&self, id: u32, slot: &mut Slot<S>) -> io::Result<()> {
        let interest = Interest::of(slot.wait);
        let before = std::mem::replace(&mut slot.interest, interest);
        let data = EventData::new_u64(id.into());
        let flags = match interest {
            _ if before == interest => return Ok(()),
            // A flag of 0 would still bring errors, again and again.
            Interest::Nothing => return Ok(epoll::delete(&self.epoll, &slot.socket)?),
            Interest::Readable => EventFlags::IN,
            Interest::Writable => EventFlags::OUT,
        };
        match before {
            Interest::Nothing => epoll::add(&self.epoll, &slot.socket, data, flags)?,
            _ => epoll::modify(&self.epoll, &slot.socket, data, flags)?,
        }
        Ok(())
    }

    /// Adds the numbers of those that are ready.
    pub fn ready(&self, ids: &mut Vec<u32>) {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = self.events.borrow_mut();
        events.clear();
        // Nothing else that it says can be true here.
        while let Err(Errno::INTR) = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&AT_ONCE)) {}
        // Numbers of slots are 32 bits wide.
        ids.extend(events.iter().map(|event| event.data.u64() as u32));
    }
}
