//! The way in for programs: feeders connect to a Unix socket and send batches.
//!
//! Each feeder has a thread that waits for it alone, so that a slow one keeps nobody waiting. What it is told it may leave
//! unread: then it is not told.

use std::{
    io::{self, Read},
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::SendFlags;

use super::{
    batch::{Batcher, News},
    board::{SharedBoard, When},
};
use crate::{
    limits::{MAX_BATCH, MAX_FEEDERS},
    listen::Gate,
};

/// When a feeder could not be accepted, the next attempt is made after this long.
const RETRY: Duration = Duration::from_millis(100);

/// After the end, a feeder that goes on sending is read for so many bytes more.
const AT_THE_END: usize = MAX_BATCH;

/// How long the end may take.
const END: Duration = Duration::from_millis(500);

/// The feeders that are connected, and those that come.
pub struct Feeders {
    gate: Arc<Gate>,
    connected: Arc<AtomicUsize>,
}

impl Feeders {
    /// Takes in what feeders send to `listener`, those of the users `allowed`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(listener: UnixListener, allowed: Vec<u32>, board: SharedBoard) -> io::Result<Self> {
        let gate = Arc::new(Gate::new()?);
        let connected = Arc::new(AtomicUsize::new(0));
        let feeders = Self { gate: gate.clone(), connected: connected.clone() };
        let accept = move || {
            while gate.wait(&listener) {
                match listener.accept() {
                    Ok((stream, _)) => admit(stream, &allowed, &board, &gate, &connected),
                    // Another process that listens here was faster.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // There is no descriptor for it, perhaps for a while.
                    Err(_) => std::thread::sleep(RETRY),
                }
            }
        };
        std::thread::Builder::new().name("feeders".to_owned()).spawn(accept)?;
        Ok(feeders)
    }

    /// Takes in what has arrived, and lets go of all feeders, so that each comes to know it. What they send from now on waits
    /// for whoever listens next.
    pub fn end(&self) {
        self.gate.close();
        let end = Instant::now() + END;
        while self.connected.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn admit(stream: UnixStream, allowed: &[u32], board: &SharedBoard, gate: &Arc<Gate>, connected: &Arc<AtomicUsize>) {
    let peer = getsockopt(&stream, PeerCredentials).map(|peer| peer.uid());
    if !peer.is_ok_and(|uid| allowed.contains(&uid)) {
        reply(&stream, "error: this user may not feed quotes; name it in feeders of [quotes]\n");
        return;
    }
    if connected.fetch_add(1, Ordering::Relaxed) >= MAX_FEEDERS {
        connected.fetch_sub(1, Ordering::Relaxed);
        reply(&stream, "error: there are too many feeders; close some\n");
        return;
    }
    let (board, gate, place) = (board.clone(), gate.clone(), Place(connected.clone()));
    let work = move || {
        let _place = place;
        feed(&stream, &board, &gate);
    };
    // Without a thread the place is given back with the closure.
    let _ = std::thread::Builder::new().name("feeder".to_owned()).spawn(work);
}

/// One of the places for feeders, given back however its feeder ends.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes in what one feeder sends, until it ends or the gate is closed.
fn feed(mut stream: &UnixStream, board: &SharedBoard, gate: &Gate) {
    let mut batcher = Batcher::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut left = AT_THE_END;
    loop {
        let goes_on = gate.wait(stream);
        if !goes_on && (left == 0 || stream.set_nonblocking(true).is_err()) {
            break;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                left = left.saturating_sub(if goes_on { 0 } else { read });
                batcher.take(&buffer[..read], |news| match news {
                    News::Batch(batch) => {
                        let lines = batch.len() as u64;
                        let mut board = board.lock();
                        if let Err(error) = board.update(batch, When::Now) {
                            board.skip(lines);
                            drop(board);
                            reply(stream, &format!("error: {error}\n"));
                        }
                    }
                    News::Skipped(line, fault) => {
                        board.lock().skip(1);
                        reply(stream, &format!("error: line {line}: {fault}\n"));
                    }
                });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let unfinished = batcher.unfinished();
    if unfinished > 0 {
        board.lock().skip(unfinished as u64);
        reply(stream, &format!("error: no blank line has ended the last {unfinished} lines: they are skipped\n"));
    }
}

/// Says something, if there is room for it.
fn reply(stream: &UnixStream, text: &str) {
    let _ = rustix::net::send(stream, text.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}
