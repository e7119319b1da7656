//! What the process asks of the system: descriptors, processors, memory, a place to log to.

use std::{io, io::IsTerminal, num::NonZero, sync::OnceLock};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};

use crate::limits::{DESCRIPTORS_ADVISED, SOMAXCONN_ADVISED};

/// Logs to stderr.
pub(super) fn start_logging() {
    let ansi = io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_writer(Log::default).with_ansi(ansi).with_target(false).finish();
    // It is set already where a program runs the server twice, as a test might.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Logs from a thread of its own, as long as the guard lives: a full disk, a pipe that nobody reads or that is gone costs lines,
/// never an answer or a reload.
pub(super) fn log_from_a_thread() -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(io::stderr());
    // It is set already, see above.
    let _ = THREAD.set(writer);
    guard
}

static THREAD: OnceLock<NonBlocking> = OnceLock::new();

/// Where lines go: to the thread that writes them, once there is one.
enum Log {
    Thread(NonBlocking),
    Stderr(io::Stderr),
}

impl Default for Log {
    fn default() -> Self {
        THREAD.get().map_or_else(|| Self::Stderr(io::stderr()), |thread| Self::Thread(thread.clone()))
    }
}

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self {
            Self::Thread(thread) => thread.write(line),
            Self::Stderr(stderr) => stderr.write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Thread(thread) => thread.flush(),
            Self::Stderr(stderr) => stderr.flush(),
        }
    }
}

/// Raises the limit as far as it may be: to the kernel's own as root, else to the hard limit. The limit now.
pub(super) fn raise_descriptor_limit() -> u64 {
    let kernel = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let beyond = kernel.max(maximum);
    for limit in [beyond, maximum] {
        if setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

pub(super) fn warn_of_small_limits(limit: u64, max_connections: usize) {
    if limit < DESCRIPTORS_ADVISED {
        tracing::warn!(
            "the descriptor limit is {limit}, so {max_connections} connections are the most; raise it before the start: \
             ulimit -n 1048576 (systemd: LimitNOFILE=1048576)"
        );
    }
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    if let Some(somaxconn) = somaxconn.ok().and_then(|text| text.trim().parse::<u32>().ok())
        && somaxconn < SOMAXCONN_ADVISED
    {
        tracing::warn!(
            "net.core.somaxconn is {somaxconn}: a storm of connections will lose some; raise it: sysctl -w \
             net.core.somaxconn=65535"
        );
    }
}

pub(super) fn allowed_cpus() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None)
        .map(|cpus| (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)).collect::<Vec<_>>());
    match allowed {
        Ok(cpus) if !cpus.is_empty() => cpus,
        _ => (0..std::thread::available_parallelism().map_or(1, NonZero::get)).collect(),
    }
}

/// Keeps large bodies out of the heap, so that each is given back when it is freed: by itself the allocator moves the
/// limit up to what was last freed, and a crowd that has gone leaves its gigabyte to the process.
pub(super) fn keep_large_bodies_apart() {
    const LARGE: libc::c_int = 128 * 1024;
    // SAFETY: it takes two numbers and no pointer, before there is another thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// What was needed to read and compress is scattered among what is kept; the allocator keeps it unless it is told.
pub(super) fn give_back_memory() {
    // SAFETY: it takes no pointer and touches free memory only, under the allocator's own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Tells systemd, where it has started this server or the one before it, that this process is the service now.
pub(super) fn notify_ready() {
    // Where nobody is to be told, nothing happens.
    let _ = sd_notify::notify(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
}

/// Tells systemd that the process of this number is the service from now on. By default it believes that of this one alone.
pub(super) fn notify_successor(process: i32) {
    if let Ok(process @ 1..) = u32::try_from(process) {
        let _ = sd_notify::notify(&[NotifyState::MainPid(process)]);
    }
}

/// Tells systemd that the service is about to stop.
pub(super) fn notify_stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}
