//! Requests and connections that were refused, for a log: so many a tick, the others are counted.
//!
//! It only notes; whoever has called the connection takes the note, and knows whose connection it is.

use std::cell::{Cell, RefCell};

use super::status::Status;
use crate::limits::REFUSALS_TOLD;

/// What was noted.
pub struct Refusals {
    left: Cell<u32>,
    withheld: Cell<u64>,
    last: RefCell<Option<Refusal>>,
}

/// What was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// With what.
    pub status: Status,
    /// The head of the request, as far as it had come, whatever it was.
    pub head: Vec<u8>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { left: Cell::new(REFUSALS_TOLD), withheld: Cell::default(), last: RefCell::default() }
    }
}

impl Refusals {
    /// A tick has begun, and with it there is room for more. How many refusals of the last one were not noted.
    pub fn begin_tick(&self) -> u64 {
        self.left.set(REFUSALS_TOLD);
        self.withheld.take()
    }

    /// Whether there is room for one more, which is taken, or else counted.
    pub fn admits(&self) -> bool {
        match self.left.get() {
            0 => {
                self.withheld.set(self.withheld.get() + 1);
                false
            }
            left => {
                self.left.set(left - 1);
                true
            }
        }
    }

    /// Notes a refusal.
    pub(super) fn note(&self, status: Status, head: &[u8]) {
        if self.admits() {
            self.last.replace(Some(Refusal { status, head: head.to_vec() }));
        }
    }

    /// What was noted since it was last taken.
    pub fn take(&self) -> Option<Refusal> {
        self.last.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_tick() {
        let refusals = Refusals::default();
        assert_eq!(refusals.begin_tick(), 0);
        for number in 0..REFUSALS_TOLD + 3 {
            refusals.note(Status::BadRequest, b"x");
            let noted = refusals.take().map(|refusal| refusal.head);
            assert_eq!(noted, (number < REFUSALS_TOLD).then(|| b"x".to_vec()));
        }
        assert_eq!((refusals.begin_tick(), refusals.begin_tick()), (3, 0));
        refusals.note(Status::BadRequest, b"");
        assert!(refusals.take().is_some() && refusals.take().is_none());
    }
}
