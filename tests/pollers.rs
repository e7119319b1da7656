//! Clients that poll without an end while something is done to the server, and count what they should not have met.
//!
//! Each has one connection at a time. It asks, waits for the answer, and asks again; where an answer says
//! `Connection: close` it takes that for the end and connects anew. Anything else that ends a connection is noted.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    cases::request,
    harness::{Conn, Response, wait_until},
};

/// What is wrong with an answer, for one who has got the ones before it in order.
pub(crate) type Judge = Box<dyn FnMut(&Response) -> Result<(), String> + Send>;

/// How they connect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As browsers do.
    KeepAlive,
    /// Anew for each request.
    Fresh,
}

/// What pollers have met.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: u64,
    /// Answers that said `Connection: close`.
    pub(crate) last_words: u64,
    /// Requests without a whole and right answer, and connections that were refused.
    pub(crate) failures: Vec<String>,
    /// Connections that ended while they were idle, without a word.
    pub(crate) closes: u64,
}

/// Pollers at work.
pub(crate) struct Pollers {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Pollers {
    /// As many as asked, which poll `path` and want what [`all_right`] does.
    pub(crate) fn start(addr: SocketAddr, count: usize, manner: Manner) -> Pollers {
        Pollers::judging(addr, count, manner, "/alive.txt", || Box::new(all_right))
    }

    /// As many as asked, which poll `path`, each with a judge of its own.
    pub(crate) fn judging(
        addr: SocketAddr,
        count: usize,
        manner: Manner,
        path: &str,
        judge: impl Fn() -> Judge,
    ) -> Pollers {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let shares = count.min(4);
        let threads = (0..shares).map(|share| {
            let mut pollers: Vec<Poller> = (share..count)
                .step_by(shares)
                .map(|_| Poller {
                    addr,
                    manner,
                    path: path.to_owned(),
                    judge: judge(),
                    conn: None,
                    tally: Tally::default(),
                })
                .collect();
            let (stop, answers) = (stop.clone(), answers.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for poller in &mut pollers {
                        poller.poll();
                        answers.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                pollers.into_iter().map(|poller| poller.tally).fold(Tally::default(), Tally::and)
            })
        });
        let threads = threads.collect();
        let pollers = Pollers { stop, answers, threads };
        pollers.wait_for_more(count as u64);
        pollers
    }

    /// Waits until there have been so many more polls.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, polls: u64) {
        let enough = self.answers.load(Ordering::Relaxed) + polls;
        wait_until("the pollers go on", || self.answers.load(Ordering::Relaxed) >= enough);
    }

    /// Stops them. What they have met.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).fold(Tally::default(), Tally::and)
    }

    /// Stops them, and none has noticed anything but that answers said `Connection: close`.
    #[track_caller]
    pub(crate) fn noticed_nothing(self) -> Tally {
        let tally = self.stop();
        let some = &tally.failures[..tally.failures.len().min(5)];
        assert!(some.is_empty(), "{} failures in {} answers: {some:#?}", tally.failures.len(), tally.answers);
        assert_eq!(tally.closes, 0, "closed without a word, in {} answers", tally.answers);
        tally
    }
}

/// 200 and the bytes of `alive.txt`.
pub(crate) fn all_right(answer: &Response) -> Result<(), String> {
    match (answer.status, answer.text().as_str()) {
        (200, "alive\n") => Ok(()),
        _ => Err(format!("another answer: {answer}\n{}", answer.text())),
    }
}

impl Tally {
    fn and(mut self, other: Tally) -> Tally {
        self.answers += other.answers;
        self.last_words += other.last_words;
        self.closes += other.closes;
        self.failures.extend(other.failures);
        self
    }
}

struct Poller {
    addr: SocketAddr,
    manner: Manner,
    path: String,
    judge: Judge,
    conn: Option<Conn>,
    tally: Tally,
}

impl Poller {
    fn poll(&mut self) {
        if let Err(why) = self.ask() {
            self.conn = None;
            self.tally.failures.push(why);
        }
    }

    fn ask(&mut self) -> Result<(), String> {
        if let Some(ended) = self.conn.as_mut().and_then(Conn::ended) {
            self.conn = None;
            self.tally.closes += 1;
            ended?;
        }
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => Conn::try_to(self.addr).map_err(|why| format!("no connection: {why}"))?,
        };
        // A name that the admin listener takes as well.
        let fields = ["Host: localhost", "Connection: close"];
        let fields = if self.manner == Manner::Fresh { &fields[..] } else { &fields[..1] };
        conn.try_send(request("GET", &self.path, fields, "")).map_err(|why| format!("not sent: {why}"))?;
        let answer = conn.try_recv(false)?;
        self.tally.answers += 1;
        (self.judge)(&answer)?;
        if answer.get("connection") == Some("close") {
            self.tally.last_words += 1;
            conn.closed()?;
        } else {
            self.conn = Some(conn);
        }
        Ok(())
    }
}
