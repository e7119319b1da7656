//! What happens to a server while it runs, and what it waits for.

use std::{
    io,
    path::PathBuf,
    process::ExitStatus,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2},
    iterator::Signals,
};

use super::{Error, process, start_error, takeover};
use crate::worker::{Control, Order};

/// What happens.
pub(super) enum Event {
    /// Stop.
    Signal,
    /// Start a successor.
    Replace,
    /// The successor that was started has ended.
    SuccessorEnded(io::Result<ExitStatus>),
    /// A successor serves: the process of this number, as far as it can be known.
    HandedOver(i32),
    FeedEnded,
    WorkerStarted,
    /// A crowd has gone, and its memory is free.
    Calm,
    /// Something is to be freed, which happens where this is received.
    Discarded(#[expect(dead_code, reason = "it is held, to be dropped")] Box<dyn Send>),
    WorkerEnded(io::Result<()>),
}

/// There was a signal to stop.
pub(super) fn is_to_stop(event: &Receiver<Event>) -> bool {
    event.try_iter().any(|event| matches!(event, Event::Signal))
}

/// Waits until all workers accept. False: there was a signal to stop.
pub(super) fn wait_for_workers(event: &Receiver<Event>, workers: usize) -> Result<bool, Error> {
    let mut started = 0;
    while started < workers {
        match event.recv() {
            Ok(Event::WorkerStarted) => started += 1,
            Ok(Event::WorkerEnded(result)) => return Err(Error::Broken(worker_ended(result))),
            Ok(Event::FeedEnded) => return Err(feed_ended()),
            Ok(Event::Signal) => return Ok(false),
            Ok(
                Event::Calm | Event::Discarded(_) | Event::Replace | Event::SuccessorEnded(_) | Event::HandedOver(_),
            ) => {}
            Err(_) => break,
        }
    }
    Ok(true)
}

/// Waits for a signal, or for a successor: whether it is that.
pub(super) fn wait_for_the_end(
    event: &Receiver<Event>,
    events: &Sender<Event>,
    program: io::Result<PathBuf>,
) -> Result<bool, Error> {
    let mut has_successor = false;
    loop {
        match event.recv() {
            Ok(Event::Signal) | Err(_) => return Ok(false),
            Ok(Event::HandedOver(successor)) => {
                tracing::info!("another server has taken over");
                process::notify_successor(successor);
                return Ok(true);
            }
            Ok(Event::Replace) if has_successor => tracing::info!("a new server is starting already"),
            Ok(Event::Replace) => match start_successor(&program, events.clone()) {
                Ok(()) => has_successor = true,
                Err(error) => tracing::warn!("no new server can be started, this one goes on: {error}"),
            },
            Ok(Event::SuccessorEnded(status)) => {
                has_successor = false;
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!("the new server has ended before it took over, this one goes on: {status}");
            }
            Ok(Event::Calm) => process::give_back_memory(),
            Ok(Event::WorkerStarted | Event::Discarded(_)) => {}
            Ok(Event::WorkerEnded(result)) => return Err(Error::Broken(worker_ended(result))),
            Ok(Event::FeedEnded) => return Err(feed_ended()),
        }
    }
}

fn worker_ended(result: io::Result<()>) -> String {
    let reason = result.map_or_else(|error| error.to_string(), |()| "it ended by itself".to_owned());
    format!("a worker cannot go on: {reason}")
}

/// Going on would be serving what is no longer so.
fn feed_ended() -> Error {
    Error::Broken("the feed cannot go on, so that no change would be seen".to_owned())
}

/// Starts the program anew, to replace this process, and waits for its end on a thread.
fn start_successor(program: &io::Result<PathBuf>, events: Sender<Event>) -> io::Result<()> {
    let program = program.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let mut child = takeover::start_successor(program)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", program.display())))?;
    // The main thread may be past caring.
    let wait = move || drop(events.send(Event::SuccessorEnded(child.wait())));
    std::thread::Builder::new().name("successor".to_owned()).spawn(wait).map(drop)
}

/// Lets the workers finish.
pub(super) fn drain(event: &Receiver<Event>, controls: &[Arc<Control>], order: Order, grace: Duration) {
    tracing::info!("stopping: what is open has {} s to finish; another signal ends it at once", grace.as_secs());
    controls.iter().for_each(|control| control.send(order));
    let end = Instant::now() + grace;
    let mut running = controls.len();
    while running > 0 {
        match event.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Event::WorkerEnded(_)) => running -= 1,
            Ok(Event::Signal) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            Ok(_) => {}
        }
    }
    controls.iter().for_each(|control| control.send(Order::Stop));
}

/// From now on signals wait to be heard.
pub(super) fn catch_signals() -> Result<Signals, Error> {
    Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR2]).map_err(|error| start_error("signal handling", &error))
}

/// Hears signals, on a thread of its own.
pub(super) fn hear(mut signals: Signals, events: Sender<Event>) -> Result<(), Error> {
    let listen = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let event = if signal == SIGUSR2 { Event::Replace } else { Event::Signal };
            // The first one drains; the main thread hears of the second as well, unless it is still loading.
            let is_second = signal != SIGUSR2 && std::mem::replace(&mut stopping, true);
            if is_second || events.send(event).is_err() {
                std::process::exit(0);
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).map(drop).map_err(|error| start_error("the signal thread", &error))
}
