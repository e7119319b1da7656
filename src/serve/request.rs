//! Bytes to [`Request`]. Pure, allocates nothing.
//!
//! The request line is parsed here, the field section by httparse, which is lenient where the contract is strict
//! (bare LF); a pass over its result closes the gap. A verdict never changes when more bytes follow: whatever
//! cuts the network makes, the same bytes get the same answer.

use httparse::Header;

use crate::limits::{MAX_HEAD, MAX_TARGET};

/// What the bytes at the front of a connection are.
#[expect(clippy::large_enum_variant, reason = "it lives on the stack for one request; a box would be an allocation")]
#[derive(Debug)]
pub enum Parsed<'h, 'b> {
    /// No whole head yet. The first `skip` bytes, empty lines before the request, are done with.
    Partial {
        /// Bytes of empty lines before the request line.
        skip: usize,
    },
    /// A well-formed head.
    Complete {
        /// The request.
        request: Request<'h, 'b>,
        /// Bytes of the head, with the empty lines before it and the blank line behind it.
        len: usize,
    },
    /// Not a request this server reads on from; the connection closes.
    Reject(Reject),
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The status to answer with.
    pub fault: Fault,
    /// The method was HEAD, so the answer has no body.
    pub head: bool,
}

/// The ways in which a head is refused, each an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 400: not HTTP, or not safely framed.
    Malformed,
    /// 414: the target is over [`MAX_TARGET`].
    TargetTooLong,
    /// 431: the head is over [`MAX_HEAD`] or has too many field lines.
    HeadTooLarge,
    /// 501: a method nobody has registered.
    UnknownMethod,
    /// 505: an HTTP version other than 1.x.
    Version,
}

/// A well-formed request head.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// The method.
    pub method: Method,
    /// The request target as it came: visible ASCII without `#`.
    pub target: &'b [u8],
    /// `Host`.
    pub host: Option<&'b [u8]>,
    /// The connection persists after the answer, as far as the client is concerned.
    pub persistent: bool,
    /// The request is HTTP/1.0, whose answer must say so if the connection persists.
    pub http10: bool,
    /// What follows the head.
    pub body: Body,
    /// `Expect: 100-continue` was sent.
    pub expects_continue: bool,
    /// `Accept-Encoding`, all lines.
    pub accept_encoding: Lines<'h, 'b>,
    /// `If-Match`, all lines.
    pub if_match: Lines<'h, 'b>,
    /// `If-None-Match`, all lines.
    pub if_none_match: Lines<'h, 'b>,
    /// `If-Modified-Since`.
    pub if_modified_since: Once<'b>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Once<'b>,
    /// `Range`.
    pub range: Once<'b>,
    /// `If-Range`.
    pub if_range: Once<'b>,
}

impl<'b> Request<'_, 'b> {
    /// A GET without fields.
    fn new(target: &'b [u8], http10: bool) -> Self {
        Self {
            method: Method::Get,
            target,
            host: None,
            persistent: false,
            http10,
            body: Body::None,
            expects_continue: false,
            accept_encoding: Lines::default(),
            if_match: Lines::default(),
            if_none_match: Lines::default(),
            if_modified_since: Once::Absent,
            if_unmodified_since: Once::Absent,
            range: Once::Absent,
            if_range: Once::Absent,
        }
    }
}

/// A request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// CONNECT, whose target is of a form of its own.
    Connect,
    /// Another method of RFC 9110, or PATCH.
    Other,
}

/// How a request body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A field that may stand once only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Once<'b> {
    /// It is not there.
    #[default]
    Absent,
    /// It stands once.
    Value(&'b [u8]),
    /// It stands several times.
    Repeated,
}

impl<'b> Once<'b> {
    /// The value, if the field stands exactly once.
    pub fn value(self) -> Option<&'b [u8]> {
        match self {
            Once::Value(value) => Some(value),
            Once::Absent | Once::Repeated => None,
        }
    }

    fn note(&mut self, value: &'b [u8]) {
        *self = match self {
            Once::Absent => Once::Value(value),
            Once::Value(_) | Once::Repeated => Once::Repeated,
        };
    }
}

/// A list field, which may stand on several lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines<'h, 'b> {
    first: Option<&'b [u8]>,
    /// The name, and the fields among which its further lines are; empty unless there are any.
    name: &'static str,
    among: &'h [Header<'b>],
}

impl<'h, 'b> Lines<'h, 'b> {
    /// The field is there, if only with an empty value.
    pub fn is_present(&self) -> bool {
        self.first.is_some()
    }

    /// The values, line by line.
    pub fn iter(&self) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        let name = self.name;
        let further = self.among.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        self.first.into_iter().chain(further.map(|field| field.value))
    }

    fn note(&mut self, name: &'static str, value: &'b [u8], after: &'h [Header<'b>]) {
        match self.first {
            None => {
                self.first = Some(value);
                self.name = name;
            }
            // The second line: it and those behind it are found again by name. This is rare.
            Some(_) if self.among.is_empty() => self.among = after,
            Some(_) => {}
        }
    }
}

/// Reads the head at the front of `input`. `fields` is where the field lines are put; more than it has room for are too
/// many.
pub fn parse<'h, 'b>(input: &'b [u8], fields: &'h mut [Header<'b>]) -> Parsed<'h, 'b> {
    let skip = match empty_lines(input) {
        Ok(skip) => skip,
        Err(fault) => return Parsed::Reject(Reject { fault, head: false }),
    };
    let head = &input[skip..input.len().min(skip + MAX_HEAD)];
    if head == b"\r" {
        return Parsed::Partial { skip };
    }
    let mut is_head_method = false;
    match parse_head(head, fields, &mut is_head_method) {
        Ok((request, len)) => Parsed::Complete { request, len: skip + len },
        Err(Stop::Partial) if head.len() < MAX_HEAD => Parsed::Partial { skip },
        Err(Stop::Partial) => Parsed::Reject(Reject { fault: Fault::HeadTooLarge, head: is_head_method }),
        Err(Stop::Fault(fault)) => Parsed::Reject(Reject { fault, head: is_head_method }),
    }
}

enum Stop {
    Partial,
    Fault(Fault),
}

const MALFORMED: Stop = Stop::Fault(Fault::Malformed);

/// RFC 9112 §2.2: empty lines before a request line are skipped. How many bytes they are.
fn empty_lines(input: &[u8]) -> Result<usize, Fault> {
    let mut skip = 0;
    loop {
        match input[skip..] {
            [b'\r', b'\n', ..] => skip += 2,
            [b'\r'] | [] => return Ok(skip),
            [b'\r' | b'\n', ..] => return Err(Fault::Malformed),
            _ => return Ok(skip),
        }
    }
}

fn parse_head<'h, 'b>(
    head: &'b [u8],
    fields: &'h mut [Header<'b>],
    is_head_method: &mut bool,
) -> Result<(Request<'h, 'b>, usize), Stop> {
    let line = request_line(head, is_head_method)?;
    let section = &head[line.len..];
    let (section_len, fields) = match httparse::parse_headers(section, fields) {
        Ok(httparse::Status::Complete(done)) => done,
        Ok(httparse::Status::Partial) => return Err(Stop::Partial),
        Err(httparse::Error::TooManyHeaders) => return Err(Stop::Fault(Fault::HeadTooLarge)),
        Err(_) => return Err(MALFORMED),
    };
    if !lines_end_in_crlf(&section[..section_len], fields) {
        return Err(MALFORMED);
    }
    let request = read_fields(&line, fields)?;
    Ok((request, line.len + section_len))
}

struct RequestLine<'b> {
    method: &'b [u8],
    target: &'b [u8],
    http10: bool,
    /// With its CRLF.
    len: usize,
}

/// RFC 9112 §3, strictly: one space between the parts, CRLF at the end. Looks at the bytes in their order, so that
/// a fault is the same however many bytes have come after it.
fn request_line<'b>(head: &'b [u8], is_head_method: &mut bool) -> Result<RequestLine<'b>, Stop> {
    let method_len = head.iter().position(|byte| !is_token(*byte)).ok_or(Stop::Partial)?;
    let method = &head[..method_len];
    if method.is_empty() || head[method_len] != b' ' {
        return Err(MALFORMED);
    }
    *is_head_method = method == b"HEAD";

    let rest = &head[method_len + 1..];
    let target_len = rest.iter().position(|byte| !is_target(*byte)).unwrap_or(rest.len());
    if target_len > MAX_TARGET {
        return Err(Stop::Fault(Fault::TargetTooLong));
    }
    match rest.get(target_len) {
        None => return Err(Stop::Partial),
        Some(b' ') if target_len > 0 => {}
        Some(_) => return Err(MALFORMED),
    }
    let version = &rest[target_len + 1..];
    let http10 = http_version(version)?;
    match version.get(8..).unwrap_or_default() {
        [] | [b'\r'] => Err(Stop::Partial),
        [b'\r', b'\n', ..] => {
            Ok(RequestLine { method, target: &rest[..target_len], http10, len: method_len + target_len + 12 })
        }
        _ => Err(MALFORMED),
    }
}

/// RFC 9112 §2.3: whether the version is 1.0; 1.1 and later ones of major version 1 are not.
fn http_version(bytes: &[u8]) -> Result<bool, Stop> {
    const FORM: &[u8; 8] = b"HTTP/0.0";
    for (at, form) in FORM.iter().enumerate() {
        match bytes.get(at) {
            None => return Err(Stop::Partial),
            Some(byte) if *form == b'0' && byte.is_ascii_digit() => {}
            Some(byte) if byte == form => {}
            Some(_) => return Err(MALFORMED),
        }
    }
    match (bytes[5], bytes[7]) {
        (b'1', minor) => Ok(minor == b'0'),
        _ => Err(Stop::Fault(Fault::Version)),
    }
}

/// httparse takes a bare LF as the end of a line; the contract does not. The bytes before each name and at the end tell.
fn lines_end_in_crlf(section: &[u8], fields: &[Header<'_>]) -> bool {
    let base = section.as_ptr().addr();
    let names_follow_crlf = fields.iter().skip(1).all(|field| {
        let at = field.name.as_ptr().addr() - base;
        section[..at].ends_with(b"\r\n")
    });
    names_follow_crlf && (section.ends_with(b"\r\n\r\n") || section == b"\r\n")
}

fn read_fields<'h, 'b>(line: &RequestLine<'b>, fields: &'h [Header<'b>]) -> Result<Request<'h, 'b>, Stop> {
    let mut request = Request::new(line.target, line.http10);
    let (mut length, mut codings) = (None, 0_u32);
    let (mut close, mut keep_alive) = (false, false);
    for (at, field) in fields.iter().enumerate() {
        let (name, value, after) = (field.name, field.value, &fields[at..]);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // The length of a name tells most fields from those that matter.
        match name.len() {
            4 if is("host") => {
                check(request.host.is_none() && is_host(value))?;
                request.host = Some(value);
            }
            5 if is("range") => request.range.note(value),
            6 if is("expect") => {
                let mut expectations = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                request.expects_continue |= expectations.any(|item| item.eq_ignore_ascii_case(b"100-continue"));
            }
            8 if is("if-match") => request.if_match.note("if-match", value, after),
            8 if is("if-range") => request.if_range.note(value),
            10 if is("connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            13 if is("if-none-match") => request.if_none_match.note("if-none-match", value, after),
            14 if is("content-length") => {
                let stated = content_length(value)?;
                check(length.is_none_or(|before| before == stated))?;
                length = Some(stated);
            }
            15 if is("accept-encoding") => request.accept_encoding.note("accept-encoding", value, after),
            17 if is("transfer-encoding") => {
                codings += 1;
                check(codings == 1 && !line.http10 && value.eq_ignore_ascii_case(b"chunked"))?;
            }
            17 if is("if-modified-since") => request.if_modified_since.note(value),
            19 if is("if-unmodified-since") => request.if_unmodified_since.note(value),
            _ => {}
        }
    }
    check(request.host.is_some() || line.http10)?;
    request.body = match (codings, length) {
        (0, None | Some(0)) => Body::None,
        (0, Some(length)) => Body::Length(u64::try_from(length).unwrap_or(u64::MAX)),
        (_, None) => Body::Chunked,
        (_, Some(_)) => return Err(MALFORMED),
    };
    request.persistent = !close && (keep_alive || !line.http10);
    request.method = method(line.method).ok_or(Stop::Fault(Fault::UnknownMethod))?;
    Ok(request)
}

fn check(holds: bool) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(MALFORMED) }
}

fn method(token: &[u8]) -> Option<Method> {
    match token {
        b"GET" => Some(Method::Get),
        b"HEAD" => Some(Method::Head),
        b"OPTIONS" => Some(Method::Options),
        b"CONNECT" => Some(Method::Connect),
        b"POST" | b"PUT" | b"DELETE" | b"TRACE" | b"PATCH" => Some(Method::Other),
        _ => None,
    }
}

/// Digits alone.
fn content_length(value: &[u8]) -> Result<u128, Stop> {
    check(!value.is_empty() && value.iter().all(u8::is_ascii_digit))?;
    let digit = |sum: u128, byte: &u8| sum.saturating_mul(10).saturating_add(u128::from(byte - b'0'));
    Ok(value.iter().fold(0, digit))
}

/// `uri-host [ ":" port ]` of RFC 3986, or nothing.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value[colon..].contains(&b']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, &b""[..]),
    };
    is_uri_host(host) && is_port(port)
}

fn is_port(port: &[u8]) -> bool {
    let number = port.iter().try_fold(0_u32, |sum, byte| {
        let sum = sum * 10 + u32::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        (sum <= u32::from(u16::MAX)).then_some(sum)
    });
    number.is_some()
}

fn is_uri_host(host: &[u8]) -> bool {
    if let [b'[', literal @ .., b']'] = host {
        let text = std::str::from_utf8(literal).unwrap_or_default();
        return text.parse::<std::net::Ipv6Addr>().is_ok() || is_ip_future(literal);
    }
    let mut rest = host;
    while let Some(at) = rest.iter().position(|byte| !is_host_byte(*byte)) {
        rest = match &rest[at..] {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => after,
            _ => return false,
        };
    }
    true
}

const fn is_host_byte(byte: u8) -> bool {
    is_unreserved(byte) || is_sub_delim(byte)
}

/// `"v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`
fn is_ip_future(literal: &[u8]) -> bool {
    let [b'v' | b'V', rest @ ..] = literal else {
        return false;
    };
    let Some(dot) = rest.iter().position(|byte| *byte == b'.') else {
        return false;
    };
    let (version, address) = (&rest[..dot], &rest[dot + 1..]);
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address.iter().all(|byte| is_unreserved(*byte) || is_sub_delim(*byte) || *byte == b':')
}

/// RFC 3986 §2.3.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §2.2.
pub(crate) const fn is_sub_delim(byte: u8) -> bool {
    matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// RFC 9110 §5.6.2, `tchar`.
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Visible ASCII; a fragment has no place in a request.
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}
