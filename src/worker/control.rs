//! How the main thread tells a worker to stop.

use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::event::{EventfdFlags, eventfd};

/// The wire from the main thread to one worker.
pub struct Control {
    order: AtomicU8,
    heard: AtomicU8,
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
    /// Accept nothing for now.
    Pause = 4,
    /// Accept again.
    Resume = 5,
}

impl Control {
    /// A wire on which nothing was said.
    ///
    /// # Errors
    /// When no descriptor can be had for it.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { order: AtomicU8::new(0), heard: AtomicU8::new(0), event })
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

    /// Notes that an order has been carried out.
    pub fn hear(&self, order: u8) {
        self.heard.store(order, Ordering::Release);
    }

    /// The order has been carried out.
    pub fn has_heard(&self, order: Order) -> bool {
        self.heard.load(Ordering::Acquire) == order as u8
    }
}
