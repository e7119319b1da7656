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
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::SendFlags;

use super::{
    batch::{Batcher, News},
    board::{SharedBoard, When},
};
use crate::limits::MAX_FEEDERS;

/// When a feeder could not be accepted, the next attempt is made after this long.
const RETRY: Duration = Duration::from_millis(100);

/// Takes in what feeders send to `listener`, for ever: those of the users `allowed`.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(listener: UnixListener, allowed: Vec<u32>, board: SharedBoard) -> io::Result<()> {
    let connected = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => admit(stream, &allowed, &board, &connected),
                // There is no descriptor for it, perhaps for a while.
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    };
    std::thread::Builder::new().name("feeders".to_owned()).spawn(accept).map(drop)
}

fn admit(stream: UnixStream, allowed: &[u32], board: &SharedBoard, connected: &Arc<AtomicUsize>) {
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
    let (board, place) = (board.clone(), Place(connected.clone()));
    let work = move || {
        let _place = place;
        feed(&stream, &board);
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

/// Takes in what one feeder sends, until it ends.
fn feed(mut stream: &UnixStream, board: &SharedBoard) {
    let mut batcher = Batcher::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => batcher.take(&buffer[..read], |news| match news {
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
            }),
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
