//! [`Answer`] to bytes. Pure.
//!
//! A head is copied together from constants and from what the entry has ready: its type, its dates, its tag.

use std::ops::Range;

use super::{
    answer::{Answer, Extent},
    output::Output,
    range::Ranges,
    status::Status,
};
use crate::{
    clock::Clock,
    store::{Coding, Entry, Held},
};

/// What an answer's head says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It persists, which in HTTP/1.1 goes without saying.
    Implied,
    /// It persists, which an HTTP/1.0 client must be told.
    KeepAlive,
    /// It closes.
    Close,
}

/// The circumstances of an answer.
#[derive(Clone, Copy)]
pub struct Envelope<'c> {
    /// For the `Date`.
    pub clock: &'c Clock,
    /// For the `Connection`.
    pub persistence: Persistence,
    /// The request was HEAD: the body is left out, its length is not.
    pub head: bool,
}

/// What was written, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The status.
    pub status: Status,
    /// The coding of a body that came from an entry.
    pub coding: Option<Coding>,
}

const ALLOW: &[u8] = b"Allow: GET, HEAD, OPTIONS\r\n";

/// Writes `answer` to `out`.
pub fn write(answer: Answer, envelope: Envelope<'_>, out: &mut Output) -> Written {
    match answer {
        Answer::Entry { entry, coding, max_age, extent } => {
            let (status, coding) = write_entry(entry, coding, max_age, extent, envelope, out);
            Written { status, coding }
        }
        Answer::Missing(Some((page, coding))) => {
            write_page(page, coding, envelope, out);
            Written { status: Status::NotFound, coding: Some(coding) }
        }
        Answer::Missing(None) => write_line(Status::NotFound, &[], envelope, out),
        Answer::Moved(location) => {
            write_line(Status::MovedPermanently, &[b"Location: ", &location, b"\r\n"], envelope, out)
        }
        Answer::Options => {
            start(Status::NoContent, envelope, out.buffer());
            out.buffer().extend_from_slice(ALLOW);
            end(envelope, out.buffer());
            Written { status: Status::NoContent, coding: None }
        }
        Answer::Unsatisfiable(len) => {
            let mut digits = itoa::Buffer::new();
            let len = digits.format(len).as_bytes();
            write_line(Status::RangeNotSatisfiable, &[b"Content-Range: bytes */", len, b"\r\n"], envelope, out)
        }
        Answer::Plain(status) => {
            let field: &[u8] = match status {
                Status::MethodNotAllowed => ALLOW,
                Status::ServiceUnavailable => b"Retry-After: 1\r\n",
                _ => b"",
            };
            write_line(status, &[field], envelope, out)
        }
    }
}

fn write_entry(
    entry: Held,
    coding: Coding,
    max_age: u32,
    extent: Extent,
    envelope: Envelope<'_>,
    out: &mut Output,
) -> (Status, Option<Coding>) {
    let head = out.buffer();
    match extent {
        Extent::Whole => {
            start(Status::Ok, envelope, head);
            write_last_modified(&entry, envelope.clock, head);
            write_coding(coding, head);
            entry.write_etag(coding, head);
            content_length(entry.len(coding), head);
            write_shared(&entry, head);
            cache_control(max_age, head);
            end(envelope, head);
            if !envelope.head {
                out.body(entry, coding);
            }
            (Status::Ok, Some(coding))
        }
        Extent::NotModified => {
            start(Status::NotModified, envelope, head);
            write_last_modified(&entry, envelope.clock, head);
            entry.write_etag(coding, head);
            write_vary(&entry, head);
            cache_control(max_age, head);
            end(envelope, head);
            (Status::NotModified, None)
        }
        Extent::Part(range) => {
            start(Status::PartialContent, envelope, head);
            write_last_modified(&entry, envelope.clock, head);
            entry.write_etag(Coding::Identity, head);
            content_range(&range, entry.identity_len(), head);
            content_length(range.len(), head);
            write_shared(&entry, head);
            cache_control(max_age, head);
            end(envelope, head);
            out.parts(entry, [(&b""[..], range)]);
            (Status::PartialContent, Some(Coding::Identity))
        }
        Extent::Parts(ranges) => {
            write_parts(entry, &ranges, max_age, envelope, out);
            (Status::PartialContent, Some(Coding::Identity))
        }
    }
}

/// RFC 9110 §14.6: `multipart/byteranges`.
fn write_parts(entry: Held, ranges: &Ranges, max_age: u32, envelope: Envelope<'_>, out: &mut Output) {
    // The content would have to hold a hash of itself for this to stand in it.
    let boundary = format!("{:016x}{:016x}", entry.hash(), entry.hash().rotate_left(32) ^ entry.stamp());
    let mut heads: Vec<Vec<u8>> = Vec::with_capacity(ranges.as_slice().len());
    for range in ranges.as_slice() {
        let break_line = if heads.is_empty() { "" } else { "\r\n" };
        let mut head = format!("{break_line}--{boundary}\r\nContent-Type: {}\r\n", entry.content_type()).into_bytes();
        content_range(range, entry.identity_len(), &mut head);
        head.extend_from_slice(b"\r\n");
        heads.push(head);
    }
    let last = format!("\r\n--{boundary}--\r\n");
    let bodies: usize = ranges.as_slice().iter().map(Range::len).sum();
    let len = bodies + heads.iter().map(Vec::len).sum::<usize>() + last.len();

    let head = out.buffer();
    start(Status::PartialContent, envelope, head);
    write_last_modified(&entry, envelope.clock, head);
    entry.write_etag(Coding::Identity, head);
    head.extend_from_slice(b"Content-Type: multipart/byteranges; boundary=");
    head.extend_from_slice(boundary.as_bytes());
    head.extend_from_slice(b"\r\nX-Content-Type-Options: nosniff\r\n");
    write_vary(&entry, head);
    content_length(len, head);
    cache_control(max_age, head);
    end(envelope, head);
    let parts = heads.iter().map(Vec::as_slice).zip(ranges.as_slice().iter().cloned());
    out.parts(entry, parts.chain([(last.as_bytes(), 0..0)]));
}

/// A 404 with the data directory's own page. It has the page's fields without its validators.
fn write_page(page: Held, coding: Coding, envelope: Envelope<'_>, out: &mut Output) {
    let head = out.buffer();
    start(Status::NotFound, envelope, head);
    if coding != Coding::Identity {
        write_coding(coding, head);
    }
    write_shared(&page, head);
    content_length(page.len(coding), head);
    cacheability(Status::NotFound, head);
    end(envelope, head);
    if !envelope.head {
        out.body(page, coding);
    }
}

/// A status whose body is its own line.
fn write_line(status: Status, field: &[&[u8]], envelope: Envelope<'_>, out: &mut Output) -> Written {
    let text = status.text().as_bytes();
    let head = out.buffer();
    start(status, envelope, head);
    field.iter().for_each(|part| head.extend_from_slice(part));
    head.extend_from_slice(b"Content-Type: text/plain; charset=utf-8\r\n");
    content_length(text.len(), head);
    cacheability(status, head);
    end(envelope, head);
    if !envelope.head {
        head.extend_from_slice(text);
    }
    Written { status, coding: None }
}

fn start(status: Status, envelope: Envelope<'_>, head: &mut Vec<u8>) {
    head.extend_from_slice(status.line().as_bytes());
    head.extend_from_slice(b"Server: cloudia\r\nDate: ");
    head.extend_from_slice(envelope.clock.date());
    head.extend_from_slice(b"\r\n");
}

fn end(envelope: Envelope<'_>, head: &mut Vec<u8>) {
    head.extend_from_slice(match envelope.persistence {
        Persistence::Implied => b"\r\n",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
    });
}

fn write_last_modified(entry: &Entry, clock: &Clock, head: &mut Vec<u8>) {
    if let Some(date) = entry.last_modified(clock.secs()) {
        head.extend_from_slice(b"Last-Modified: ");
        head.extend_from_slice(date);
        head.extend_from_slice(b"\r\n");
    }
}

/// What tells a 200 in one coding from another, but for its tag and length.
fn write_coding(coding: Coding, head: &mut Vec<u8>) {
    head.extend_from_slice(match coding {
        Coding::Identity => &b"Accept-Ranges: bytes\r\n"[..],
        Coding::Br => b"Content-Encoding: br\r\n",
        Coding::Zstd => b"Content-Encoding: zstd\r\n",
        Coding::Deflate => b"Content-Encoding: deflate\r\n",
        Coding::Gzip => b"Content-Encoding: gzip\r\n",
    });
}

/// What all codings share.
fn write_shared(entry: &Entry, head: &mut Vec<u8>) {
    head.extend_from_slice(b"Content-Type: ");
    head.extend_from_slice(entry.content_type().as_bytes());
    head.extend_from_slice(match entry.varies() {
        true => &b"\r\nVary: Accept-Encoding\r\nX-Content-Type-Options: nosniff\r\n"[..],
        false => b"\r\nX-Content-Type-Options: nosniff\r\n",
    });
}

fn write_vary(entry: &Entry, head: &mut Vec<u8>) {
    if entry.varies() {
        head.extend_from_slice(b"Vary: Accept-Encoding\r\n");
    }
}

fn cache_control(max_age: u32, head: &mut Vec<u8>) {
    number(b"Cache-Control: max-age=", max_age, head);
}

fn cacheability(status: Status, head: &mut Vec<u8>) {
    match status.max_age() {
        Some(seconds) => cache_control(seconds, head),
        None => head.extend_from_slice(b"Cache-Control: no-store\r\n"),
    }
}

fn content_length(len: usize, head: &mut Vec<u8>) {
    number(b"Content-Length: ", len, head);
}

fn number(field: &[u8], value: impl itoa::Integer, head: &mut Vec<u8>) {
    head.extend_from_slice(field);
    head.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    head.extend_from_slice(b"\r\n");
}

fn content_range(range: &Range<usize>, len: usize, head: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    head.extend_from_slice(b"Content-Range: bytes ");
    head.extend_from_slice(digits.format(range.start).as_bytes());
    head.push(b'-');
    // A range that is sent is never empty.
    head.extend_from_slice(digits.format(range.end - 1).as_bytes());
    head.push(b'/');
    head.extend_from_slice(digits.format(len).as_bytes());
    head.extend_from_slice(b"\r\n");
}
