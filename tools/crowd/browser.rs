//! Browsers: each keeps a connection and what it was told, and asks again when that is no longer fresh.
//!
//! They believe nothing: an answer must be whole and nothing more, a 304 must have been asked for, and no path goes back in time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::event::epoll::EventFlags;

use crate::{
    answer::{Answer, Facts, Verdict},
    args::{Common, Habits},
    dice::Dice,
    engine::Script,
    pool::{Moved, Pool, Stage, name_of},
};

const INTEREST: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP);

/// Requests that fall due before what has happened meanwhile is looked at.
const BATCH: usize = 64;

/// All browsers of a thread.
pub struct Browsers {
    /// A request for each path, but for validators and the blank line.
    heads: Vec<String>,
    habits: Habits,
    timeout: Duration,
    /// One for each path of each browser.
    pages: Vec<Page>,
    browsers: Vec<Browser>,
    /// When each page is to be asked for that is not being asked for.
    times: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Pages that are being asked for, or wait for that.
    waiting: usize,
    dice: Dice,
    request: Vec<u8>,
    ends: bool,
    fault: Option<String>,
}

/// What a browser keeps of a path.
#[derive(Debug, Default)]
struct Page {
    last_modified: Option<Box<[u8]>>,
    etag: Option<Box<[u8]>>,
    /// The last stamp, in seconds since 1970; 0: none.
    stamp: u64,
    /// Bytes of the body, which a 304 saves.
    body: u64,
}

#[derive(Debug, Default)]
struct Browser {
    /// Pages whose time has come, and when it did. The first is the one that is being asked for.
    due: VecDeque<(u32, Instant)>,
    /// The request had a validator.
    is_conditional: bool,
    /// The answer before was a 304.
    after_304: bool,
    was_connected: bool,
}

impl Browsers {
    pub fn new(common: &Common, habits: Habits, first: u32, size: u32) -> Self {
        let paths = common.path.len();
        let mut dice = Dice::new(habits.seed ^ u64::from(first) << 32);
        let now = Instant::now();
        let start = |page| Reverse((now + habits.every.mul_f64(dice.share()), page));
        Self {
            heads: common.path.iter().map(|path| common.head("GET", path)).collect(),
            times: (0..size * paths as u32).map(start).collect(),
            pages: std::iter::repeat_with(Page::default).take(size as usize * paths).collect(),
            browsers: std::iter::repeat_with(Browser::default).take(size as usize).collect(),
            timeout: Duration::from_secs_f64(common.timeout),
            habits,
            waiting: 0,
            dice,
            request: Vec::new(),
            ends: false,
            fault: None,
        }
    }

    /// Asks for what is due, if nothing is awaited.
    fn ask(&mut self, pool: &mut Pool, slot: usize) {
        let Some((page, _)) = self.browsers[slot].due.front() else { return };
        let page = *page as usize;
        match pool.lines[slot].stage {
            Stage::Closed => self.connect(pool, slot),
            Stage::Connecting | Stage::Asked => {}
            // An end that has come already was the server's right: nothing was asked.
            Stage::Open => match pool.receive(slot, usize::MAX) {
                Moved::Nothing => self.send(pool, slot, page),
                Moved::Bytes(_) => self.fail(pool, slot, self.surplus(slot)),
                over => {
                    pool.count_end(over);
                    pool.close(slot);
                    self.connect(pool, slot);
                }
            },
        }
    }

    fn connect(&mut self, pool: &mut Pool, slot: usize) {
        let browser = &mut self.browsers[slot];
        pool.counts.reconnects += u64::from(browser.was_connected);
        browser.after_304 = false;
        if let Err(how) = pool.try_open(slot, INTEREST) {
            self.not_connected(pool, slot, how);
        }
    }

    fn not_connected(&mut self, pool: &mut Pool, slot: usize, how: &'static str) {
        if how == "refused" && pool.counts.connected == 0 {
            let addr = pool.addr();
            self.fault = Some(format!("nobody listens on {addr}: the connection is refused; see --addr"));
        }
        self.fail(pool, slot, how);
    }

    fn send(&mut self, pool: &mut Pool, slot: usize, page: usize) {
        let known = &self.pages[page];
        let etag = known.etag.as_deref().filter(|_| !self.habits.only_ims);
        self.request.clear();
        self.request.extend_from_slice(self.heads[page % self.heads.len()].as_bytes());
        let fields = [("If-None-Match: ", etag), ("If-Modified-Since: ", known.last_modified.as_deref())];
        for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            self.request.extend_from_slice(name.as_bytes());
            self.request.extend_from_slice(value);
            self.request.extend_from_slice(b"\r\n");
        }
        self.request.extend_from_slice(b"\r\n");
        self.browsers[slot].is_conditional = etag.is_some() || known.last_modified.is_some();
        pool.counts.requests += 1;
        pool.lines[slot].since = Some(Instant::now());
        pool.lines[slot].stage = Stage::Asked;
        match pool.send(slot, &self.request) {
            Moved::Bytes(sent) if sent == self.request.len() => {}
            // What the server said before it closed may still be there.
            _ => self.read(pool, slot),
        }
    }

    /// Receives what there is of an answer.
    fn read(&mut self, pool: &mut Pool, slot: usize) {
        while pool.lines[slot].stage == Stage::Asked {
            let over = match pool.receive(slot, usize::MAX) {
                Moved::Bytes(got) => {
                    self.take(pool, slot, got);
                    continue;
                }
                Moved::Nothing => return,
                Moved::End => "closed early",
                Moved::Broken(error) => name_of(error.raw_os_error()),
            };
            let line = &pool.lines[slot];
            if line.answer.has_begun() {
                self.fail(pool, slot, "cut short");
            } else if line.step > 0 {
                // It had been used before, so the server may have closed it before the request came: browsers ask again, once.
                pool.counts.browse.retries += 1;
                pool.close(slot);
                self.connect(pool, slot);
            } else {
                self.fail(pool, slot, over);
            }
        }
    }

    fn take(&mut self, pool: &mut Pool, slot: usize, got: usize) {
        let (answer, bytes) = pool.received(slot, got);
        let taken = answer.take(bytes);
        match taken {
            Err(_) if !pool.lines[slot].answer.begins_as_answer() => self.fail(pool, slot, self.surplus(slot)),
            Err(_) => self.fail(pool, slot, "malformed"),
            Ok((used, whole)) => {
                let Some(verdict) = whole else { return };
                self.browsers[slot].after_304 = verdict.status == 304;
                if used < got {
                    self.fail(pool, slot, self.surplus(slot));
                    return;
                }
                let facts = pool.lines[slot].answer.facts();
                let line = &mut pool.lines[slot];
                line.stage = Stage::Open;
                line.step += 1;
                if verdict.closes {
                    pool.close(slot);
                }
                self.answered(pool, slot, verdict, facts);
                self.ask(pool, slot);
            }
        }
    }

    /// What bytes are that belong to no answer.
    fn surplus(&self, slot: usize) -> &'static str {
        if self.browsers[slot].after_304 { "304 with a body" } else { "more than was announced" }
    }

    /// An answer is whole; whether it is right is another matter.
    fn answered(&mut self, pool: &mut Pool, slot: usize, verdict: Verdict, facts: Facts) {
        let Some((number, due)) = self.browsers[slot].due.pop_front() else { return };
        self.waiting -= 1;
        let (counts, page) = (&mut pool.counts, &mut self.pages[number as usize]);
        counts.answer(verdict.status, due.elapsed());
        counts.browse.body_bytes += facts.body;
        let fresh_for = facts.fresh_for;
        match verdict.status {
            200 => {
                page.judge(&facts).into_iter().for_each(|how| counts.fail(how));
                (page.last_modified, page.etag, page.body) = (facts.last_modified, facts.etag, facts.body);
            }
            304 if !self.browsers[slot].is_conditional => counts.fail("304 to no condition"),
            304 => {
                counts.browse.saved_bytes += page.body;
                page.judge(&facts).into_iter().for_each(|how| counts.fail(how));
                page.last_modified = facts.last_modified.or(page.last_modified.take());
                page.etag = facts.etag.or(page.etag.take());
            }
            // What was kept may still be used.
            500.. => {}
            _ => *page = Page::default(),
        }
        self.plan(number, fresh_for);
    }

    /// The next time for a page: when what came is no longer fresh, and never before that.
    fn plan(&mut self, page: u32, fresh_for: Option<u64>) {
        let time = fresh_for.filter(|seconds| *seconds > 0).map_or(self.habits.every, Duration::from_secs);
        let later = 1.0 + self.habits.jitter * self.dice.share();
        // A year is longer than anybody waits here, and can be added to any time.
        let time = time.min(Duration::from_secs(31_536_000)).mul_f64(later);
        if !self.ends {
            self.times.push(Reverse((Instant::now() + time, page)));
        }
    }

    /// The request that is awaited has failed, and so has its connection.
    fn fail(&mut self, pool: &mut Pool, slot: usize, how: &'static str) {
        pool.counts.fail(how);
        pool.close(slot);
        if let Some((page, _)) = self.browsers[slot].due.pop_front() {
            self.waiting -= 1;
            self.plan(page, None);
        }
    }
}

impl Page {
    /// What is wrong with the stamp of an answer.
    fn judge(&mut self, facts: &Facts) -> Option<&'static str> {
        let text = facts.last_modified.as_deref()?;
        let stamp = std::str::from_utf8(text).ok().and_then(|text| httpdate::parse_http_date(text).ok());
        let Some(stamp) = stamp else { return Some("Last-Modified is no date") };
        let stamp = seconds(stamp);
        let before = std::mem::replace(&mut self.stamp, stamp);
        (stamp < before).then_some("Last-Modified went back")
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Script for Browsers {
    /// They keep times of their own.
    fn act(&mut self, _: &mut Pool, _: Instant) {}

    fn next(&self) -> Option<Instant> {
        self.times.peek().map(|Reverse((due, _))| *due)
    }

    fn wake(&mut self, pool: &mut Pool, now: Instant) {
        for _ in 0..BATCH {
            let Some(Reverse((due, page))) = self.times.peek().copied().filter(|Reverse((due, _))| *due <= now) else {
                return;
            };
            self.times.pop();
            let slot = page as usize / self.heads.len();
            pool.counts.acted += 1;
            self.waiting += 1;
            self.browsers[slot].due.push_back((page, due));
            self.ask(pool, slot);
        }
    }

    fn ready(&mut self, pool: &mut Pool, slot: usize, flags: EventFlags) {
        match pool.lines[slot].stage {
            Stage::Closed => {}
            Stage::Connecting => match pool.connected(slot, flags) {
                Ok(()) => {
                    let line = &mut pool.lines[slot];
                    line.answer = Answer::noting();
                    let took = line.since.map_or(Duration::ZERO, |since| since.elapsed());
                    pool.counts.browse.connects.add(took);
                    self.browsers[slot].was_connected = true;
                    self.ask(pool, slot);
                }
                Err(error) => self.not_connected(pool, slot, name_of(error.raw_os_error())),
            },
            Stage::Open if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP) => {
                match pool.receive(slot, usize::MAX) {
                    Moved::Nothing => {}
                    // Nobody asked. There is no request that fails with it.
                    Moved::Bytes(_) => {
                        pool.counts.fail(self.surplus(slot));
                        pool.close(slot);
                    }
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
        self.waiting == 0
    }

    fn last_call(&mut self) {
        self.ends = true;
        self.times.clear();
    }

    fn give_up(&mut self, pool: &mut Pool) {
        let now = Instant::now();
        let waits = self.browsers.iter().flat_map(|browser| &browser.due);
        let longest = waits.map(|(_, due)| now.saturating_duration_since(*due)).max();
        pool.counts.browse.unanswered = self.waiting as u64;
        pool.counts.browse.waited = longest.unwrap_or_default();
    }

    fn fault(&mut self) -> Option<String> {
        self.fault.take()
    }
}
