//! Request smuggling: bytes that two servers may read differently, one after the other on a connection of a balancer. Each
//! vector has the RFC's section and one verdict: which answers there are, and what becomes of the connection. A request
//! that hides in it is never answered, unless it stands there for everyone to see.
//!
//! Where the wire contract is stricter than the RFC it is the contract that counts: what is ambiguous is refused, and the
//! connection ends. Each vector goes through a socket, whole and cut behind every CR and LF, on both drivers.

mod chunks;
mod heads;
mod lengths;

use crate::harness::{Conn, Server, Site};

/// Stands for [`HIDDEN`] in the vectors.
const MARK: &[u8] = b"@@";

/// The request that must not be answered where another hop took it for something else: 37 (25 in hexadecimal) bytes.
const HIDDEN: &[u8] = b"GET /hidden.txt HTTP/1.1\r\nHost: h\r\n\r\n";

#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// One answer, of this status, and the end.
    Refused(u16),
    /// These answers, and the connection goes on.
    Open(&'static [u16]),
    /// These answers and the end.
    Closed(&'static [u16]),
    /// It waits for more, and without more there is no answer.
    Silent,
}

struct Vector {
    /// RFC and section.
    rule: &'static str,
    bytes: Vec<u8>,
    verdict: Verdict,
}

impl Vector {
    fn new(rule: &'static str, bytes: &[u8], verdict: Verdict) -> Vector {
        let mut whole = Vec::new();
        let mut rest = bytes;
        while let Some(at) = crate::basics::find(rest, MARK) {
            whole.extend_from_slice(&[&rest[..at], HIDDEN].concat());
            rest = &rest[at + MARK.len()..];
        }
        whole.extend_from_slice(rest);
        Vector { rule, bytes: whole, verdict }
    }

    /// What is wrong with what is answered.
    fn fault(&self, conn: &mut Conn) -> Result<(), String> {
        let (statuses, ends) = match self.verdict {
            Verdict::Refused(status) => (&[status][..], true),
            Verdict::Open(statuses) => (statuses, false),
            Verdict::Closed(statuses) => (statuses, true),
            Verdict::Silent => {
                conn.shut_write();
                return conn.closed();
            }
        };
        // It is pipelined behind a message that ends, by all rules, before it.
        let is_in_plain_sight = statuses.len() > 1;
        for (at, status) in statuses.iter().enumerate() {
            let to_head = at == 0 && self.bytes.starts_with(b"HEAD");
            let answer = conn.try_recv(to_head)?;
            if answer.status != *status {
                return Err(format!("expected {status}, got {answer}"));
            }
            if answer.body == b"hidden\n" && !(is_in_plain_sight && at > 0) {
                return Err(format!("what was hidden is answered: {answer}"));
            }
            let says_close = answer.get("connection") == Some("close");
            if says_close != (ends && at + 1 == statuses.len()) {
                return Err(format!("answer {at} says close: {says_close}"));
            }
        }
        if ends { conn.closed() } else { conn.open() }
    }
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = lengths::vectors().chain(chunks::vectors()).chain(heads::vectors()).collect();
    assert!(vectors.len() > 60 && HIDDEN.len() == 37);
    vectors
}

fn site() -> Site {
    let site = Site::new();
    site.file("a.txt", "a\n").file("alive.txt", "alive\n").file("hidden.txt", "hidden\n");
    site
}

fn judge_all(io: &str) {
    let site = site();
    let server = Server::builder(&site).io(io).start();
    let mut faults = Vec::new();
    for vector in vectors() {
        let ends = (1..vector.bytes.len()).filter(|at| b"\r\n".contains(&vector.bytes[at - 1]));
        for cuts in [Vec::new(), ends.take(40).collect()] {
            let mut conn = server.connect();
            conn.send_cut(&vector.bytes, &cuts);
            if let Err(why) = vector.fault(&mut conn) {
                let (start, cut) = (&vector.bytes[..vector.bytes.len().min(300)], !cuts.is_empty());
                faults.push(format!(
                    "{} cut: {cut}, {:?}\n{}\n{why}",
                    vector.rule,
                    vector.verdict,
                    start.escape_ascii()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{io}:\n{}", faults.join("\n\n"));
}

#[test]
fn nothing_is_smuggled_through_io_uring_where_it_is_allowed() {
    judge_all("auto");
}

#[test]
fn nothing_is_smuggled_through_epoll() {
    judge_all("epoll");
}
