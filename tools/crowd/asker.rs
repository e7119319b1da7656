//! Honest clients: they ask when it is time, wait for the whole answer, and count what does not come.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rustix::event::epoll::EventFlags;

use crate::{
    args::Common,
    engine::Script,
    pool::{Moved, Pool, Stage, name_of},
    requests::Turn,
};

const INTEREST: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP);

/// Clients that ask in turn.
pub struct Asker {
    requests: Turn,
    timeout: Duration,
    /// Answers after which a connection is closed; 0: none.
    most: u64,
    /// For each connection when its requests were due that have no answer yet.
    due: Vec<VecDeque<Instant>>,
    next: usize,
}

impl Asker {
    pub fn new(common: &Common, requests: Turn, size: u32, most: u64) -> Self {
        Self {
            requests,
            timeout: Duration::from_secs_f64(common.timeout),
            most,
            due: vec![VecDeque::new(); size as usize],
            next: 0,
        }
    }

    /// Asks, if there is something to ask and nothing awaited.
    fn ask(&mut self, pool: &mut Pool, slot: usize) {
        if self.due[slot].is_empty() {
            return;
        }
        match pool.lines[slot].stage {
            Stage::Closed => {
                pool.open(slot, INTEREST);
            }
            Stage::Connecting | Stage::Asked => {}
            // An end that has come already was the server's right: nothing was asked.
            Stage::Open => match pool.receive(slot, usize::MAX) {
                Moved::Nothing => self.send(pool, slot),
                Moved::Bytes(got) => self.take(pool, slot, got),
                over => {
                    pool.count_end(over);
                    self.again(pool, slot);
                }
            },
        }
    }

    fn send(&mut self, pool: &mut Pool, slot: usize) {
        pool.counts.requests += 1;
        pool.lines[slot].since = Some(Instant::now());
        pool.lines[slot].stage = Stage::Asked;
        let request = self.requests.take();
        match pool.send(slot, request) {
            Moved::Bytes(sent) if sent == request.len() => {}
            // What the server said before it closed may still be there.
            _ => self.read(pool, slot),
        }
    }

    /// Receives what there is of an answer.
    fn read(&mut self, pool: &mut Pool, slot: usize) {
        while pool.lines[slot].stage == Stage::Asked {
            match pool.receive(slot, usize::MAX) {
                Moved::Bytes(got) => self.take(pool, slot, got),
                Moved::Nothing => break,
                Moved::End if pool.lines[slot].answer.has_begun() => self.fail(pool, slot, "cut short"),
                Moved::End => self.fail(pool, slot, "closed early"),
                Moved::Broken(error) => self.fail(pool, slot, name_of(error.raw_os_error())),
            }
        }
    }

    fn take(&mut self, pool: &mut Pool, slot: usize, got: usize) {
        let (answer, bytes) = pool.received(slot, got);
        let taken = answer.take(bytes);
        match taken {
            Err(_) => self.fail(pool, slot, "malformed"),
            Ok((used, _)) if used < got => self.fail(pool, slot, "more than was asked"),
            Ok((_, None)) => {}
            Ok((_, Some(verdict))) => {
                if let Some(due) = self.due[slot].pop_front() {
                    pool.counts.answer(verdict.status, due.elapsed());
                }
                let line = &mut pool.lines[slot];
                line.stage = Stage::Open;
                line.step += 1;
                if verdict.closes || self.most > 0 && line.step >= self.most {
                    self.again(pool, slot);
                }
                self.ask(pool, slot);
            }
        }
    }

    /// The request that is awaited has failed, and so has its connection.
    fn fail(&mut self, pool: &mut Pool, slot: usize, how: &'static str) {
        self.due[slot].pop_front();
        pool.counts.fail(how);
        pool.close(slot);
    }

    fn again(&mut self, pool: &mut Pool, slot: usize) {
        pool.counts.reconnects += 1;
        pool.close(slot);
        if !self.due[slot].is_empty() {
            pool.open(slot, INTEREST);
        }
    }
}

impl Script for Asker {
    fn act(&mut self, pool: &mut Pool, due: Instant) {
        let slot = self.next;
        self.next = (slot + 1) % pool.lines.len();
        self.due[slot].push_back(due);
        self.ask(pool, slot);
    }

    fn ready(&mut self, pool: &mut Pool, slot: usize, flags: EventFlags) {
        match pool.lines[slot].stage {
            Stage::Closed => {}
            Stage::Connecting => match pool.connected(slot, flags) {
                Ok(()) => self.ask(pool, slot),
                Err(error) => self.fail(pool, slot, name_of(error.raw_os_error())),
            },
            Stage::Open if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) => {
                match pool.receive(slot, usize::MAX) {
                    Moved::Nothing => {}
                    Moved::Bytes(got) => self.take(pool, slot, got),
                    over => {
                        pool.count_end(over);
                        pool.close(slot);
                    }
                }
            }
            Stage::Open => {}
            Stage::Asked => self.read(pool, slot),
        }
    }

    fn tick(&mut self, pool: &mut Pool, now: Instant) {
        for slot in 0..pool.lines.len() {
            let line = &pool.lines[slot];
            let is_late = line.since.is_some_and(|since| now.saturating_duration_since(since) > self.timeout);
            match line.stage {
                Stage::Connecting if is_late => self.fail(pool, slot, "connect timeout"),
                Stage::Asked if is_late => self.fail(pool, slot, "timeout"),
                Stage::Closed => self.ask(pool, slot),
                _ => {}
            }
        }
    }

    fn is_settled(&self, _: &Pool) -> bool {
        self.due.iter().all(VecDeque::is_empty)
    }
}
