//! How a worker is told to stop, or to accept nothing for a while.

use std::{io, os::fd::OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// The wire to one worker.
pub struct Control {
    order: AtomicU8,
    /// Apart from the order, which it must not take the place of.
    is_paused: AtomicBool,
    has_paused: AtomicBool,
    event: OwnedFd,
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// Close the listeners, finish what is being answered, then end.
    Drain = 1,
    /// As `Drain`, but leave the listeners as they are: another process accepts from them.
    HandOver = 2,
    /// End.
    Stop = 3,
}

impl Control {
    /// A wire on which nothing was said.
    ///
    /// # Errors
    /// When no descriptor can be had for it.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { order: AtomicU8::new(0), is_paused: AtomicBool::default(), has_paused: AtomicBool::default(), event })
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

    /// Lets the worker accept nothing, or accept again.
    pub fn pause(&self, is_paused: bool) {
        self.is_paused.store(is_paused, Ordering::Release);
        self.nudge();
    }

    /// It is to accept nothing.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }

    /// Notes that the worker does as [`Control::is_paused`] said.
    pub fn note_paused(&self, is_paused: bool) {
        self.has_paused.store(is_paused, Ordering::Release);
    }

    /// The worker accepts nothing.
    pub fn has_paused(&self) -> bool {
        self.has_paused.load(Ordering::Acquire)
    }
}
