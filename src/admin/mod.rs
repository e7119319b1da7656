//! Health, metrics and status, on a listener of its own.
//!
//! Beyond this machine it answers only those who bring a token. It runs on threads of its own, a short-lived one for each connection, so that a question never waits behind the feed
//! nor a worker behind a question. It shows the names of the data directory, none of its contents, and answers only those who come to it under
//! its own name: a page of the web that resolves its name to this address is refused.

mod metrics;
mod status;
mod token;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

pub use token::Token;

use crate::{
    clock::{http_date, unix_now},
    limits::{ADMIN_CONNECTIONS, ADMIN_HEAD_SECS, ADMIN_SECS, MAX_FIELDS, MAX_HEAD},
    listen::{Bound, Gate},
    run::{Stage, StageCell},
    serve::{
        request::{self, Method, Parsed, Request},
        status::Status,
        target::Target,
    },
    stats::{FeedStats, WorkerStats},
    store::Store,
};

/// What there is to tell.
pub struct Overview {
    stage: Arc<StageCell>,
    workers: Vec<Arc<WorkerStats>>,
    feed: Arc<FeedStats>,
    store: Arc<Store>,
    started: SystemTime,
}

/// Who is answered.
pub struct Access {
    /// What everybody must know; None: nothing, which is for listeners that only this machine reaches.
    pub token: Option<Token>,
    /// Names besides `localhost`, in lower case.
    pub names: Vec<String>,
}

impl Overview {
    /// An overview over a server that started at `started`.
    pub fn new(
        stage: Arc<StageCell>,
        workers: Vec<Arc<WorkerStats>>,
        feed: Arc<FeedStats>,
        store: Arc<Store>,
        started: SystemTime,
    ) -> Self {
        Self { stage, workers, feed, store, started }
    }

    fn sum(&self, count: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.workers.iter().map(|worker| count(worker)).sum()
    }
}

/// Answers on `bound` from now on, until `gate` closes.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(bound: &Bound, access: Arc<Access>, overview: Overview, gate: Arc<Gate>) -> io::Result<()> {
    let Some(listener) = bound.listeners.first() else {
        return Ok(());
    };
    let listener = TcpListener::from(listener.try_clone()?);
    let listen = move || listen(&listener, &Arc::new((access, overview)), &gate);
    std::thread::Builder::new().name("admin".to_owned()).spawn(listen).map(drop)
}

fn listen(listener: &TcpListener, told: &Arc<(Arc<Access>, Overview)>, gate: &Gate) {
    // As many hands as connections at once; whoever comes when all are busy waits in the listen queue.
    let slots = Arc::new(Slots::default());
    while gate.wait(listener) {
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            // Another process that listens here was faster.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => {
                // No descriptor, most likely: trying again at once would spin.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let slot = Slots::take(&slots);
        let told = told.clone();
        let answer = move || {
            // The client may be gone; then there is nobody to tell.
            let _ = converse(&connection, &told.0, &told.1);
            drop(slot);
        };
        if let Err(error) = std::thread::Builder::new().name("admin".to_owned()).spawn(answer) {
            tracing::warn!("an admin connection is dropped: {error}");
        }
    }
}

#[derive(Default)]
struct Slots {
    used: Mutex<usize>,
    freed: std::sync::Condvar,
}

/// The right to answer one connection, until it is dropped.
struct Slot(Arc<Slots>);

impl Slots {
    fn take(slots: &Arc<Self>) -> Slot {
        let used = slots.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used =
            slots.freed.wait_while(used, |used| *used >= ADMIN_CONNECTIONS).unwrap_or_else(PoisonError::into_inner);
        *used += 1;
        Slot(slots.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

fn converse(connection: &TcpStream, access: &Access, overview: &Overview) -> io::Result<()> {
    let head = if access.token.is_some() { ADMIN_HEAD_SECS } else { ADMIN_SECS };
    let end = Instant::now() + Duration::from_secs(head);
    connection.set_write_timeout(Some(Duration::from_secs(ADMIN_SECS)))?;
    let mut input = Vec::new();
    let reply = loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        match request::parse(&input, &mut fields) {
            Parsed::Complete { request, len } => {
                break (answer(&request, &input[..len], access, overview), request.method == Method::Head);
            }
            Parsed::Reject(reject) => break (Reply::line(reject.fault.into()), reject.head),
            Parsed::Partial { .. } => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        connection.set_read_timeout(Some(left))?;
        let mut more = [0; 4096];
        let received = (&*connection).read(&mut more)?;
        if received == 0 || input.len() > 2 * MAX_HEAD {
            return Ok(());
        }
        input.extend_from_slice(&more[..received]);
    };
    let (reply, head) = reply;
    (&*connection).write_all(&reply.into_bytes(head))?;
    // Lets the client read the answer before the socket is gone, whatever it is still sending.
    connection.shutdown(Shutdown::Write)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    io::copy(&mut connection.take(MAX_HEAD as u64), &mut io::sink()).map(drop)
}

/// An answer of this listener.
struct Reply {
    status: Status,
    content_type: &'static str,
    field: &'static str,
    body: String,
}

impl Reply {
    fn new(content_type: &'static str, body: String) -> Self {
        Self { status: Status::Ok, content_type, field: "", body }
    }

    fn line(status: Status) -> Self {
        let field = match status {
            Status::MethodNotAllowed => "Allow: GET, HEAD\r\n",
            Status::Unauthorized => "WWW-Authenticate: Bearer, Basic realm=\"cloudia\"\r\n",
            _ => "",
        };
        Self { status, content_type: "text/plain; charset=utf-8", field, body: status.text().to_owned() }
    }

    fn into_bytes(self, head: bool) -> Vec<u8> {
        let Self { status, content_type, field, body } = self;
        let head_text = format!(
            "{}Server: cloudia\r\nDate: {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
             frame-ancestors 'none'\r\n{field}Connection: close\r\n\r\n",
            status.line(),
            String::from_utf8_lossy(&http_date(unix_now())),
            body.len()
        );
        let mut bytes = head_text.into_bytes();
        if !head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

fn answer(request: &Request<'_, '_>, head: &[u8], access: &Access, overview: &Overview) -> Reply {
    let target = Target::parse(request.target);
    let host = target.ok().and_then(|target| target.authority).or(request.host);
    if !host.is_none_or(|host| is_own_host(host, &access.names)) {
        return Reply::line(Status::Forbidden);
    }
    if !access.token.as_ref().is_none_or(|token| token.admits(head)) {
        return Reply::line(Status::Unauthorized);
    }
    if !matches!(request.method, Method::Get | Method::Head) {
        return Reply::line(Status::MethodNotAllowed);
    }
    let Ok(target) = target else {
        return Reply::line(Status::BadRequest);
    };
    match target.path {
        b"/healthz" => Reply::new("text/plain; charset=utf-8", "ok\n".to_owned()),
        b"/readyz" => match overview.stage.get() {
            Stage::Ready => Reply::new("text/plain; charset=utf-8", "ready\n".to_owned()),
            Stage::Loading | Stage::Draining => Reply::line(Status::ServiceUnavailable),
        },
        b"/metrics" => Reply::new(metrics::CONTENT_TYPE, metrics::text(overview)),
        b"/status.json" => Reply::new("application/json", status::json(overview, target.query)),
        b"/status" | b"/" => Reply::new("text/html; charset=utf-8", status::page(overview)),
        _ => Reply::line(Status::NotFound),
    }
}

/// `localhost` or an address, which are names that a page of the web cannot come under, or one of `names`.
fn is_own_host(host: &[u8], names: &[String]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else {
        return false;
    };
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(literal, _)| literal.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let is_known = |known: &str| name.eq_ignore_ascii_case(known);
    is_known("localhost") || name.parse::<Ipv4Addr>().is_ok() || names.iter().any(|known| is_known(known))
}

#[cfg(test)]
mod tests {
    use super::is_own_host;

    #[test]
    fn only_names_that_nobody_can_register() {
        for host in ["localhost", "LocalHost:9180", "127.0.0.1", "10.0.0.7:9180", "[::1]", "[::1]:9180"] {
            assert!(is_own_host(host.as_bytes(), &[]), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "127.0.0.1.example.com", "[example]", ":9180"] {
            assert!(!is_own_host(host.as_bytes(), &[]), "{host}");
        }
        let names = ["admin.example.com".to_owned()];
        assert!(is_own_host(b"Admin.example.com:9180", &names) && !is_own_host(b"b.example.com", &names));
    }
}
