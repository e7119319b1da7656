//! The best compression for what stays as it is.
//!
//! What changes is published at once, compressed as well as that allows. What has then not changed for a while is
//! compressed again on this thread, which runs only when nobody else wants to, and swapped in. Its content, its stamp
//! and its tags stay what they are.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Weak,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::codec::{self, Effort};
use crate::store::{Entry, identities};

/// What changes more often than this is not worth it.
const STEADY: Duration = Duration::from_secs(3);

/// For each second of work this many of rest: after the first load there may be hours of it, and a quarter of a core is
/// what nobody minds.
const REST: u32 = 3;

/// The niceness of this thread: the last of all.
const NICE: i32 = 19;

/// A version whose compression was made here, in a hurry.
pub struct Improvable {
    /// The path that it is for.
    pub content: Arc<str>,
    /// The version; gone if it was replaced.
    pub entry: Weak<Entry>,
}

/// A better compression.
pub struct Improved {
    /// The path that it is for.
    pub content: Arc<str>,
    /// The version that it is of.
    pub entry: Arc<Entry>,
    /// The raw deflate stream.
    pub deflate: Box<[u8]>,
}

/// Starts the thread that improves what the returned end is given.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(done: impl Fn(Improved) + Send + 'static) -> io::Result<Sender<Improvable>> {
    let (improvements, jobs) = mpsc::channel();
    std::thread::Builder::new().name("improve".to_owned()).spawn(move || run(&jobs, done))?;
    Ok(improvements)
}

/// Improves what comes until nobody is left to send it.
fn run(jobs: &Receiver<Improvable>, done: impl Fn(Improved)) {
    // Without it the work is done all the same, only less politely.
    let _ = rustix::process::setpriority_process(None, NICE);
    let mut waiting: VecDeque<(Instant, Improvable)> = VecDeque::new();
    loop {
        let now = Instant::now();
        let wait = waiting.front().map_or(Duration::MAX, |(due, _)| due.saturating_duration_since(now));
        match jobs.recv_timeout(wait.min(Duration::from_secs(3600))) {
            Ok(job) => waiting.push_back((Instant::now() + STEADY, job)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while waiting.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let begun = Instant::now();
            if let Some(improved) = waiting.pop_front().and_then(|(_, job)| improve(job)) {
                done(improved);
            }
            std::thread::sleep(begun.elapsed() * REST);
        }
    }
}

fn improve(job: Improvable) -> Option<Improved> {
    let entry = job.entry.upgrade()?;
    let held = entry.deflate_body()?.len();
    let content = identities::inflate(&entry)?;
    let deflate = codec::deflate(&content, Effort::Best)?.into_boxed_slice();
    // For less than that no cache anywhere needs to be disturbed.
    (deflate.len() + held / 100 < held).then_some(Improved { content: job.content, entry, deflate })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Bodies;

    #[test]
    fn what_is_replaced_or_good_enough_is_left_alone() {
        let content: Vec<u8> = (0..3000_u32).flat_map(|n| format!("line {}\n", n * n % 977).into_bytes()).collect();
        let entry = |effort| {
            let deflate = codec::deflate(&content, effort).map(Vec::into_boxed_slice);
            let bodies = Bodies { deflate, ..Bodies::identity(content.clone().into()) };
            Arc::new(Entry::new("text/plain", 7, bodies).compact())
        };
        let job = |entry: &Arc<Entry>| Improvable { content: "a".into(), entry: Arc::downgrade(entry) };
        let (hasty, best) = (entry(Effort::Change), entry(Effort::Best));
        assert!(improve(job(&best)).is_none());
        let improved = improve(job(&hasty)).unwrap();
        let better = hasty.recompressed(improved.deflate);
        assert_eq!((better.stamp(), better.etag()), (hasty.stamp(), hasty.etag()));
        assert_eq!(identities::inflate(&better).as_deref(), Some(&content[..]));
        let gone = job(&hasty);
        drop((hasty, improved.entry));
        assert!(improve(gone).is_none());
    }

    #[test]
    fn it_ends_with_its_last_sender() {
        let (jobs, received) = mpsc::channel();
        drop(jobs);
        run(&received, |_| unreachable!("nothing was sent"));
    }
}
