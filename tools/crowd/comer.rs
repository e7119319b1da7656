//! Clients that come, and mostly go again: that they come is the attack.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use crate::{
    args::{Common, Mode},
    engine::Script,
    pool::{Moved, Pool, Stage, name_of},
};

const INTEREST: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP);

/// Clients that come.
pub struct Comer {
    way: Way,
    request: Vec<u8>,
    timeout: Duration,
    come: u64,
    next: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Silent,
    HalfOpen,
    Reset,
    Churn { ask: bool, keep: Duration },
}

/// What a connection is for; it is numbered with what came before it.
#[derive(Clone, Copy, PartialEq)]
enum Visit {
    Bare,
    Half,
    Whole,
}

impl Comer {
    pub fn new(common: &Common, mode: &Mode) -> Self {
        let way = match *mode {
            Mode::HalfOpen => Way::HalfOpen,
            Mode::Reset => Way::Reset,
            Mode::Churn { ask, keep } => Way::Churn { ask, keep: Duration::from_secs_f64(keep.max(0.0)) },
            _ => Way::Silent,
        };
        Self { way, request: common.request(), timeout: Duration::from_secs_f64(common.timeout), come: 0, next: 0 }
    }

    fn visit(&self, pool: &Pool, slot: usize) -> Visit {
        match (self.way, pool.lines[slot].step % 3) {
            (Way::Churn { ask: true, .. }, _) | (_, 2) => Visit::Whole,
            (_, 1) => Visit::Half,
            _ => Visit::Bare,
        }
    }

    /// A connection has been made.
    fn arrive(&mut self, pool: &mut Pool, slot: usize) {
        let visit = self.visit(pool, slot);
        match (self.way, visit) {
            (Way::Silent | Way::HalfOpen, _) => {}
            (Way::Reset, Visit::Bare) => pool.reset(slot),
            (Way::Churn { .. }, Visit::Bare) => pool.close(slot),
            (Way::Reset, Visit::Half) => {
                pool.counts.requests += 1;
                pool.send(slot, &self.request);
                pool.reset(slot);
            }
            (Way::Churn { .. }, Visit::Half) => {
                pool.send(slot, &self.request[..self.request.len() / 2]);
                pool.close(slot);
            }
            (_, Visit::Whole) => {
                pool.counts.requests += 1;
                pool.lines[slot].stage = Stage::Asked;
                if let Moved::Broken(_) = pool.send(slot, &self.request) {
                    self.read(pool, slot);
                }
            }
        }
    }

    /// Something has come that was asked for.
    fn read(&mut self, pool: &mut Pool, slot: usize) {
        while pool.lines[slot].stage == Stage::Asked {
            match pool.receive(slot, usize::MAX) {
                Moved::Nothing => break,
                Moved::Bytes(_) if self.way == Way::Reset => pool.reset(slot),
                Moved::Bytes(got) => {
                    let (answer, bytes) = pool.received(slot, got);
                    match answer.take(bytes) {
                        Err(_) => Self::fail(pool, slot, "malformed"),
                        Ok((_, None)) => {}
                        Ok((_, Some(verdict))) => self.answered(pool, slot, verdict.status, verdict.closes),
                    }
                }
                Moved::End if pool.lines[slot].answer.has_begun() => Self::fail(pool, slot, "cut short"),
                Moved::End => Self::fail(pool, slot, "closed early"),
                Moved::Broken(error) => Self::fail(pool, slot, name_of(error.raw_os_error())),
            }
        }
    }

    fn answered(&self, pool: &mut Pool, slot: usize, status: u16, closes: bool) {
        let line = &mut pool.lines[slot];
        let took = line.since.map_or(Duration::ZERO, |since| since.elapsed());
        line.stage = Stage::Open;
        line.since = Some(Instant::now());
        pool.counts.answer(status, took);
        if closes || self.keep().is_zero() {
            pool.close(slot);
        }
    }

    fn keep(&self) -> Duration {
        if let Way::Churn { keep, .. } = self.way { keep } else { Duration::MAX }
    }

    fn fail(pool: &mut Pool, slot: usize, how: &'static str) {
        pool.counts.fail(how);
        pool.close(slot);
    }
}

impl Script for Comer {
    fn act(&mut self, pool: &mut Pool, _: Instant) {
        let slot = self.next;
        self.next = (slot + 1) % pool.lines.len();
        let stage = pool.lines[slot].stage;
        if stage == Stage::Connecting && self.way == Way::HalfOpen {
            pool.close(slot);
        }
        if pool.lines[slot].stage == Stage::Closed && pool.open(slot, INTEREST) {
            pool.lines[slot].step = self.come;
            self.come += 1;
        }
    }

    fn ready(&mut self, pool: &mut Pool, slot: usize, flags: EventFlags) {
        match pool.lines[slot].stage {
            Stage::Closed => {}
            Stage::Connecting => match pool.connected(slot, flags) {
                Ok(()) => self.arrive(pool, slot),
                Err(error) => pool.counts.fail(name_of(error.raw_os_error())),
            },
            Stage::Open => {
                pool.discard(slot);
            }
            Stage::Asked => self.read(pool, slot),
        }
    }

    fn tick(&mut self, pool: &mut Pool, now: Instant) {
        if self.way == Way::HalfOpen {
            return;
        }
        let keep = self.keep();
        for slot in 0..pool.lines.len() {
            let line = &pool.lines[slot];
            let age = line.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            match line.stage {
                Stage::Connecting if age > self.timeout => Self::fail(pool, slot, "connect timeout"),
                Stage::Asked if age > self.timeout => Self::fail(pool, slot, "timeout"),
                Stage::Open if age > keep => pool.close(slot),
                _ => {}
            }
        }
    }
}
