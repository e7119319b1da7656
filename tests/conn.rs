//! A raw HTTP/1.1 client: sends any bytes, reads answers by their framing, and takes no liberties with
//! it. An answer that is not well-formed is an error here, whatever the test was about.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use rustix::net::sockopt;

pub(crate) use crate::basics::{find, http_date, parse_date};
use crate::cases;
use crate::harness::PATIENCE;

/// A connection, with the bytes that came after the last answer.
pub(crate) struct Conn {
    stream: TcpStream,
    surplus: Vec<u8>,
}

impl Conn {
    pub(crate) fn to(addr: SocketAddr) -> Conn {
        Conn::try_to(addr).expect("the server accepts")
    }

    pub(crate) fn try_to(addr: SocketAddr) -> std::io::Result<Conn> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Conn::over(stream))
    }

    /// A connection that was made elsewhere.
    pub(crate) fn over(stream: TcpStream) -> Conn {
        Conn { stream, surplus: Vec::new() }
    }

    /// Sends all of `bytes`. A server that does not want them is no error: its answer tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).ok();
    }

    /// Whether the peer still takes bytes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `bytes` in pieces that end at `cuts`, each a packet of its own as far as that can be had.
    pub(crate) fn send_cut(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut start = 0;
        for &cut in cuts {
            self.send(&bytes[start..cut]);
            // Correct either way; the pause only makes it likely that the server sees the cut.
            thread::sleep(Duration::from_micros(200));
            start = cut;
        }
        self.send(&bytes[start..]);
    }

    /// Closes the sending half.
    pub(crate) fn shut_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends it by a reset, as a client does that crashes or is in a hurry.
    pub(crate) fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    /// The next answer, to any method but HEAD.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Response {
        self.try_recv(false).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The next answer, to HEAD.
    #[track_caller]
    pub(crate) fn recv_head(&mut self) -> Response {
        self.try_recv(true).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The next answer, or what is wrong with it.
    pub(crate) fn try_recv(&mut self, to_head: bool) -> Result<Response, String> {
        let end = loop {
            if let Some(at) = find(&self.surplus, b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return Err(format!("closed before an answer: {:?}", lossy(&self.surplus)));
            }
        };
        let head: Vec<u8> = self.surplus.drain(..end).collect();
        let mut response = Response::parse(&head)?;
        let length = response.body_length(to_head)?;
        while self.surplus.len() < length {
            if self.fill()? == 0 {
                let got = self.surplus.len();
                return Err(format!("cut after {got} of {length} bytes: {response}"));
            }
        }
        response.body = self.surplus.drain(..length).collect();
        Ok(response)
    }

    /// Reads everything up to the end of the connection, however it ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while matches!(self.fill(), Ok(1..)) {}
        std::mem::take(&mut self.surplus)
    }

    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        self.closed().unwrap_or_else(|why| panic!("{why}"));
    }

    /// The server has ended the connection in good order, and said no more before.
    pub(crate) fn closed(&mut self) -> Result<(), String> {
        while self.surplus.is_empty() {
            match self.fill() {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(why) => return Err(format!("expected the end of the connection: {why}")),
            }
        }
        let more = lossy(&self.surplus);
        Err(format!("expected the end of the connection, got {more:?}"))
    }

    /// Whether the server has ended the connection already, and if so whether in good order. It does not wait.
    pub(crate) fn ended(&mut self) -> Option<Result<(), String>> {
        self.stream.set_nonblocking(true).unwrap();
        let read = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match read {
            Ok(0) => Some(Ok(())),
            Ok(_) => Some(Err("it says something unasked".to_owned())),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => Some(Err(e.to_string())),
        }
    }

    /// No reset has come behind the last answer. Linux gives what came before it to the reader all the same, other
    /// systems throw it away.
    #[track_caller]
    pub(crate) fn assert_not_reset(&self) {
        let error = self.stream.take_error().unwrap();
        assert!(error.is_none(), "reset behind the answer: {error:?}");
    }

    #[track_caller]
    pub(crate) fn assert_open(&mut self) {
        self.open().unwrap_or_else(|why| panic!("{why}"));
    }

    /// The connection answers another request, and said nothing before.
    pub(crate) fn open(&mut self) -> Result<(), String> {
        self.send(cases::get("/alive.txt"));
        let next = self.try_recv(false).map_err(|why| format!("expected an open connection: {why}"))?;
        match (next.status, next.body.as_slice()) {
            (200, b"alive\n") => Ok(()),
            _ => Err(format!("expected an open connection, got {next}")),
        }
    }

    fn fill(&mut self) -> Result<usize, String> {
        let mut chunk = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(n) => {
                    self.surplus.extend_from_slice(&chunk[..n]);
                    return Ok(n);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    return Err(format!("silence after {:?}", lossy(&self.surplus)));
                }
                Err(e) => return Err(format!("{e} after {:?}", lossy(&self.surplus))),
            }
        }
    }
}

/// An answer. [`fmt::Display`] shows its head.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    fn parse(head: &[u8]) -> Result<Response, String> {
        let fault = |what: &str| format!("{what} in the answer {:?}", lossy(head));
        let text = String::from_utf8_lossy(head);
        let mut lines = text[..text.len() - 4].split("\r\n");
        let first = lines.next().unwrap_or_default();
        let code = first.strip_prefix("HTTP/1.1 ");
        let code = code.and_then(|rest| rest.split_once(' '));
        let status = code.filter(|(code, _)| code.len() == 3);
        let status = status.and_then(|(code, _)| code.parse().ok());
        let status = status.ok_or_else(|| fault("no status line"))?;
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| fault("no field"))?;
            let token = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if name.is_empty() || !name.bytes().all(token) {
                return Err(fault("a bad field name"));
            }
            if value.trim() != value || value.bytes().any(|b| b < b' ' || b == 0x7f) {
                return Err(fault("a bad field value"));
            }
            if fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                return Err(fault("a field twice"));
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
        Ok(Response { status, fields, body: Vec::new() })
    }

    /// How many bytes of body follow the head (RFC 9112 §6.3).
    fn body_length(&self, to_head: bool) -> Result<usize, String> {
        if self.get("transfer-encoding").is_some() {
            return Err(format!("a transfer coding: {self}"));
        }
        let length = match self.get("content-length") {
            Some(length) => Some(length.parse().map_err(|_| format!("bad length: {self}"))?),
            None => None,
        };
        match self.status {
            204 | 304 if length.is_some() => Err(format!("a length without a body: {self}")),
            204 | 304 => Ok(0),
            _ if to_head => Ok(0),
            _ => length.ok_or_else(|| format!("no length: {self}")),
        }
    }

    /// The value of a field, by its name in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.fields.iter().find(named).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body without its `Content-Encoding`; all of it must be used up by that.
    ///
    /// # Panics
    /// On a coding other than gzip and deflate, and on bytes that do not decode.
    pub(crate) fn decoded(&self) -> Vec<u8> {
        let (plain, left) = match self.get("content-encoding") {
            None => return self.body.clone(),
            Some("gzip" | "x-gzip") => inflate(GzDecoder::new(&*self.body), GzDecoder::into_inner),
            Some("deflate") => inflate(ZlibDecoder::new(&*self.body), ZlibDecoder::into_inner),
            Some(other) => panic!("cannot decode {other}"),
        };
        assert_eq!(left, 0, "bytes after the compressed stream: {self}");
        plain
    }

    /// The raw deflate stream inside a gzip or zlib frame.
    pub(crate) fn raw_deflate(&self) -> &[u8] {
        let from = match self.get("content-encoding") {
            Some("deflate") => 2,
            Some("gzip" | "x-gzip") => {
                assert_eq!(self.body[3], 0, "a plain gzip header");
                10
            }
            other => panic!("no deflate in {other:?}"),
        };
        let inner = &self.body[from..];
        let (_, left) = inflate(DeflateDecoder::new(inner), DeflateDecoder::into_inner);
        &inner[..inner.len() - left]
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for (name, value) in &self.fields {
            write!(f, "\n  {name}: {value}")?;
        }
        Ok(())
    }
}

/// What a decoder yields, and how many bytes it left over.
fn inflate<'a, D: Read>(mut decoder: D, left: fn(D) -> &'a [u8]) -> (Vec<u8>, usize) {
    let mut plain = Vec::new();
    decoder.read_to_end(&mut plain).expect("a sound stream");
    (plain, left(decoder).len())
}

/// The beginning of some bytes, for a failure message.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned()
}
