//! Threads, each with its share of the connections, from the first connect to the report.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    args::{Args, Mode},
    asker::Asker,
    browser::Browsers,
    comer::Comer,
    counts::Counts,
    pace::Pace,
    pool::Pool,
    progress::{Progress, Told},
    report::Outcome,
    requests::{Requests, Turn},
    sockets::Special,
    stall::Staller,
    writer::Writer,
};
use rustix::{
    event::epoll::{Event, EventFlags},
    process::{Resource, getrlimit, setrlimit},
};

/// How often a mode looks at all its connections.
const TICK: Duration = Duration::from_millis(250);

/// Descriptors of a thread that are no connections.
const OWN: u64 = 32;

/// What the clients of a thread do.
pub trait Script {
    /// The next action is due, since `due`.
    fn act(&mut self, pool: &mut Pool, due: Instant);
    /// Something happened to a connection.
    fn ready(&mut self, pool: &mut Pool, slot: usize, flags: EventFlags);
    /// Some time has passed.
    fn tick(&mut self, _: &mut Pool, _: Instant) {}
    /// Nothing is awaited.
    fn is_settled(&self, _: &Pool) -> bool {
        true
    }
    /// When something is due, if it keeps times of its own.
    fn next(&self) -> Option<Instant> {
        None
    }
    /// Does what is due by now.
    fn wake(&mut self, _: &mut Pool, _: Instant) {}
    /// Nothing more falls due from now on.
    fn last_call(&mut self) {}
    /// What is still awaited is not waited for.
    fn give_up(&mut self, _: &mut Pool) {}
    /// Why it makes no sense to go on.
    fn fault(&mut self) -> Option<String> {
        None
    }
}

/// Does what was asked for.
pub fn run(args: &Args) -> io::Result<Outcome> {
    raise_descriptor_limit(args)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let requests = Arc::new(match &args.mode {
        Mode::Poll { requests: Some(file), .. } => Requests::load(&args.common, file)?,
        _ => Requests::one(&args.common),
    });
    let progress = Arc::new(Progress::new(args.common.seconds(&args.mode)));
    let start = Instant::now();
    let threads: Vec<_> = (0..args.common.threads)
        .map(|index| {
            let (args, stop, progress) = (args.clone(), stop.clone(), progress.clone());
            let requests = requests.clone().turn(index, args.common.threads);
            thread::spawn(move || Thread { args: &args, index, requests, stop: &stop, progress: &progress }.run())
        })
        .collect();
    let (mut ramp, mut counts) = (Counts::default(), Counts::default());
    let ended: Vec<_> = threads.into_iter().map(thread::JoinHandle::join).collect();
    progress.end();
    for thread in ended {
        let (before, after) = thread.map_err(|_| io::Error::other("a thread panicked"))??;
        ramp.add(before);
        counts.add(after);
    }
    Ok(Outcome { elapsed: start.elapsed(), ramp, counts })
}

/// The limit holds for every table of descriptors, of which each thread has its own.
fn raise_descriptor_limit(args: &Args) -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let Some(maximum) = limit.maximum else { return Ok(()) };
    let most = maximum.saturating_sub(OWN).max(1);
    let connections = u64::from(args.common.connections);
    let needed = connections.div_ceil(args.common.threads.into());
    if needed <= most {
        return Ok(());
    }
    let fault = format!(
        "{needed} connections a thread are more than the limit of open files allows (ulimit -Hn: {maximum}); take --threads {}, \
         or raise it for this shell: prlimit --pid $$ --nofile={} (as root)",
        connections.div_ceil(most),
        needed + OWN
    );
    Err(io::Error::other(fault))
}

struct Thread<'a> {
    args: &'a Args,
    index: u32,
    requests: Turn,
    stop: &'a AtomicBool,
    progress: &'a Progress,
}

impl Thread<'_> {
    /// What was counted until all were connected, and from then on.
    fn run(&self) -> io::Result<(Counts, Counts)> {
        own_descriptors()?;
        let common = &self.args.common;
        let begin = |index: u32| (u64::from(common.connections) * u64::from(index) / u64::from(common.threads)) as u32;
        let (first, size) = (begin(self.index), begin(self.index + 1) - begin(self.index));
        let mut pool = Pool::new(common.clone(), self.special(), first, size)?;
        let share = f64::from(size) / f64::from(common.connections);
        let rate = common.rate * share;
        let mut ramp = Counts::default();
        let (mut script, period) = self.script(first, size);
        let time = Duration::from_secs_f64(common.seconds(&self.args.mode));
        let nothing = || Pace::new(Instant::now(), 1.0).up_to(0);
        if let Mode::Browse { .. } = self.args.mode {
            self.drive(&mut *script, &mut pool, nothing(), time, false)?;
            script.last_call();
            self.drive(&mut *script, &mut pool, nothing(), Duration::from_secs_f64(common.timeout), true)?;
            script.give_up(&mut pool);
        } else if let Some(every) = self.asks_every() {
            let connecting = if matches!(self.args.mode, Mode::Poll { .. }) { rate.max(1000.0) } else { rate };
            let all = Pace::new(Instant::now(), connecting).up_to(size.into());
            let patience = f64::from(size) / connecting + common.timeout;
            self.drive(&mut *script, &mut pool, all, Duration::from_secs_f64(patience), true)?;
            ramp = std::mem::take(&mut pool.counts);
            let polls = match every {
                Some(every) => Pace::new(Instant::now(), every * share),
                None => nothing(),
            };
            self.drive(&mut *script, &mut pool, polls, time, false)?;
        } else {
            let rate = period.map_or(rate, |period| rate.min(f64::from(size) / period));
            let acts = Pace::new(Instant::now(), rate).skipping();
            self.drive(&mut *script, &mut pool, acts, time, false)?;
        }
        Ok((ramp, pool.finish()))
    }

    /// Acts at its pace and answers what happens, until the time is over; where `settles`, until all is done.
    fn drive(
        &self,
        script: &mut dyn Script,
        pool: &mut Pool,
        mut pace: Pace,
        time: Duration,
        settles: bool,
    ) -> io::Result<()> {
        let start = Instant::now();
        let (end, mut tick) = (start + time, start + TICK);
        let mut told = Told::default();
        let mut ready: Vec<Event> = Vec::with_capacity(512);
        loop {
            let now = Instant::now();
            if now >= end || self.stop.load(Ordering::Relaxed) || settles && pace.is_over() && script.is_settled(pool) {
                break;
            }
            // A late pace must not keep what has happened waiting.
            for _ in 0..64 {
                let Some(due) = pace.take(now) else { break };
                script.act(pool, due);
            }
            if now >= tick {
                script.tick(pool, now);
                self.progress.add(&pool.counts, &mut told);
                if self.index == 0 {
                    self.progress.show(if settles { Duration::ZERO } else { now - start });
                }
                tick = now + TICK;
            }
            script.wake(pool, now);
            let times = [pace.next(), script.next(), Some(tick), Some(end)];
            pool.wait(&mut ready, times.into_iter().flatten().min().unwrap_or(end))?;
            for event in &ready {
                script.ready(pool, event.data.u64() as usize, event.flags);
            }
            if let Some(fault) = script.fault() {
                self.stop.store(true, Ordering::Relaxed);
                return Err(io::Error::other(fault));
            }
        }
        self.progress.add(&pool.counts, &mut told);
        pool.counts.acted += pace.acted();
        pool.counts.skipped += pace.skipped();
        Ok(())
    }

    /// The script of the mode, and the seconds in which it visits each of its connections once, if it is bound to any.
    fn script(&self, first: u32, size: u32) -> (Box<dyn Script>, Option<f64>) {
        let common = &self.args.common;
        match self.args.mode {
            Mode::Browse { .. } => (Box::new(Browsers::new(common, self.args.mode.habits(), first, size)), None),
            Mode::Poll { requests_per_connection, .. } => {
                (Box::new(Asker::new(common, self.requests.clone(), size, requests_per_connection)), None)
            }
            Mode::Hold { .. } => (Box::new(Asker::new(common, self.requests.clone(), size, 0)), None),
            Mode::Stall { trickle, files, .. } => {
                (Box::new(Staller::new(common, trickle, files)), (trickle > 0).then_some(1.0))
            }
            Mode::SlowHead { every } | Mode::SlowBody { every } => {
                (Box::new(Writer::new(common, &self.args.mode)), Some(every))
            }
            Mode::LateHead { .. } => (Box::new(Writer::new(common, &self.args.mode)), Some(0.25)),
            Mode::NeverRead | Mode::Garbage { .. } => (Box::new(Writer::new(common, &self.args.mode)), None),
            Mode::Silent | Mode::HalfOpen | Mode::Reset | Mode::Churn { .. } => {
                (Box::new(Comer::new(common, &self.args.mode)), None)
            }
        }
    }

    /// For the honest modes: requests a second of all threads once all are connected, if any.
    fn asks_every(&self) -> Option<Option<f64>> {
        match self.args.mode {
            Mode::Poll { .. } => Some(Some(self.args.common.rate)),
            Mode::Hold { every } => Some(every.map(|every| f64::from(self.args.common.connections) / every)),
            _ => None,
        }
    }

    fn special(&self) -> Special {
        match self.args.mode {
            Mode::Stall { receive_buffer, .. } => Special { receive_buffer: Some(receive_buffer), deaf: false },
            Mode::NeverRead => Special { receive_buffer: Some(4096), deaf: false },
            Mode::HalfOpen => Special { receive_buffer: None, deaf: true },
            _ => Special::default(),
        }
    }
}

/// Gives this thread a descriptor table of its own: the limit of a table is what bounds a client.
fn own_descriptors() -> io::Result<()> {
    // SAFETY: this thread has just begun and uses no descriptor but the standard streams, of which it gets copies. What it
    // opens from here on is known to itself alone.
    let result = unsafe { libc::unshare(libc::CLONE_FILES) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
