//! What the workers share with the main thread: a count of connections, and an order to stop.

use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU8, AtomicUsize, Ordering},
};

use rustix::event::{EventfdFlags, eventfd};

/// The connections of all workers, counted. It is written when one opens or closes, never for a request.
pub struct Budget {
    open: AtomicUsize,
    max: usize,
}

impl Budget {
    /// At most `max` connections.
    pub fn new(max: usize) -> Self {
        Self { open: AtomicUsize::new(0), max }
    }

    /// Counts one more, if there may be one.
    pub fn take(&self) -> bool {
        let within = self.open.fetch_add(1, Ordering::Relaxed) < self.max;
        if !within {
            self.give_back();
        }
        within
    }

    /// Counts one less.
    pub fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The wire from the main thread to one worker.
pub struct Control {
    order: AtomicU8,
    event: OwnedFd,
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Stop accepting, finish what is being answered, then end.
    Drain = 1,
    /// End.
    Stop = 2,
}

impl Control {
    /// A wire on which nothing was said.
    ///
    /// # Errors
    /// When no descriptor can be had for it.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { order: AtomicU8::new(0), event })
    }

    /// Gives an order.
    pub fn send(&self, order: Order) {
        self.order.store(order as u8, Ordering::Release);
        self.nudge();
    }

    /// Wakes the worker.
    pub fn nudge(&self) {
        // It fails only when the counter is full, and then the worker is about to wake anyway.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Where an order is heard: it becomes readable.
    pub fn event(&self) -> &OwnedFd {
        &self.event
    }

    /// The last order, as [`Order`]'s number; 0 before the first.
    pub fn order(&self) -> u8 {
        self.order.load(Ordering::Acquire)
    }
}
