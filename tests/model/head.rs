//! Request heads (wire section 7, RFC 9112 §2 to §6), byte by byte.
//!
//! A head has one fault, the first that its bytes show. What concerns the head as a whole is looked at when it has
//! come as a whole: a bare LF among the fields, then what the fields say, then whether the method is known.

use std::net::Ipv6Addr;

use super::{Reader, is_text, is_token, latin1, number, trim};

const MAX_HEAD: usize = 16 * 1024;
const MAX_TARGET: usize = 8 * 1024;
const MAX_FIELDS: usize = 100;

#[derive(Debug)]
pub(crate) enum Verdict {
    /// More bytes are needed; the first `skip` are empty lines.
    Partial {
        skip: usize,
    },
    Whole {
        head: Head,
        len: usize,
    },
    Refused {
        status: u16,
        to_head: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    minor_version: u8,
    /// Names in lower case, values without the white space around them.
    fields: Vec<(String, String)>,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u128),
    Chunked,
}

/// Why reading stops.
enum Stop {
    Partial,
    Fault(u16),
}

const BAD: Stop = Stop::Fault(400);

/// Reads the head at the front of `input`.
pub(crate) fn read(input: &[u8]) -> Verdict {
    let mut skip = 0;
    while input[skip..].starts_with(b"\r\n") {
        skip += 2;
    }
    let rest = &input[skip..];
    match rest.first() {
        None => return Verdict::Partial { skip },
        Some(b'\r') if rest.len() == 1 => return Verdict::Partial { skip },
        Some(b'\r' | b'\n') => return Verdict::Refused { status: 400, to_head: false },
        Some(_) => {}
    }
    let mut reader = Reader { bytes: &rest[..rest.len().min(MAX_HEAD)], at: 0 };
    let mut to_head = false;
    match read_head(&mut reader, &mut to_head) {
        Ok(head) => Verdict::Whole { head, len: skip + reader.at },
        Err(Stop::Fault(status)) => Verdict::Refused { status, to_head },
        Err(Stop::Partial) if rest.len() >= MAX_HEAD => Verdict::Refused { status: 431, to_head },
        Err(Stop::Partial) => Verdict::Partial { skip },
    }
}

fn read_head(reader: &mut Reader<'_>, to_head: &mut bool) -> Result<Head, Stop> {
    let method = read_method(reader)?;
    *to_head = method == "HEAD";
    let target = read_target(reader)?;
    let minor_version = read_version(reader)?;
    expect(reader, b"\r\n")?;
    let fields = read_fields(reader)?;
    let head = Head { method, target, minor_version, fields };
    if head.is_malformed() {
        return Err(BAD);
    }
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    if !known.contains(&head.method.as_str()) {
        return Err(Stop::Fault(501));
    }
    Ok(head)
}

fn next(reader: &mut Reader<'_>) -> Result<u8, Stop> {
    reader.next().ok_or(Stop::Partial)
}

fn expect(reader: &mut Reader<'_>, bytes: &[u8]) -> Result<(), Stop> {
    for byte in bytes {
        if next(reader)? != *byte {
            return Err(BAD);
        }
    }
    Ok(())
}

fn read_method(reader: &mut Reader<'_>) -> Result<String, Stop> {
    let mut method = Vec::new();
    loop {
        match next(reader)? {
            b' ' if !method.is_empty() => return Ok(latin1(&method)),
            byte if is_token(byte) => method.push(byte),
            _ => return Err(BAD),
        }
    }
}

fn read_target(reader: &mut Reader<'_>) -> Result<String, Stop> {
    let mut target = Vec::new();
    loop {
        match next(reader)? {
            b' ' if !target.is_empty() => return Ok(latin1(&target)),
            b'#' => return Err(BAD),
            byte @ b'!'..=b'~' => target.push(byte),
            _ => return Err(BAD),
        }
        if target.len() > MAX_TARGET {
            return Err(Stop::Fault(414));
        }
    }
}

/// The minor version of HTTP/1.
fn read_version(reader: &mut Reader<'_>) -> Result<u8, Stop> {
    expect(reader, b"HTTP/")?;
    let major = read_digit(reader)?;
    expect(reader, b".")?;
    let minor = read_digit(reader)?;
    if major == 1 { Ok(minor) } else { Err(Stop::Fault(505)) }
}

fn read_digit(reader: &mut Reader<'_>) -> Result<u8, Stop> {
    match next(reader)? {
        byte @ b'0'..=b'9' => Ok(byte - b'0'),
        _ => Err(BAD),
    }
}

fn read_fields(reader: &mut Reader<'_>) -> Result<Vec<(String, String)>, Stop> {
    let mut fields = Vec::new();
    let mut bare_lf = false;
    loop {
        match next(reader)? {
            b'\r' => {
                expect(reader, b"\n")?;
                break;
            }
            b'\n' => {
                bare_lf = true;
                break;
            }
            first => {
                let name = read_name(first, reader)?;
                let value = read_value(reader, &mut bare_lf)?;
                if fields.len() == MAX_FIELDS {
                    return Err(Stop::Fault(431));
                }
                fields.push((name, value));
            }
        }
    }
    if bare_lf { Err(BAD) } else { Ok(fields) }
}

fn read_name(first: u8, reader: &mut Reader<'_>) -> Result<String, Stop> {
    let mut name = Vec::new();
    let mut byte = first;
    loop {
        match byte {
            b':' if !name.is_empty() => return Ok(latin1(&name).to_ascii_lowercase()),
            byte if is_token(byte) => name.push(byte),
            _ => return Err(BAD),
        }
        byte = next(reader)?;
    }
}

fn read_value(reader: &mut Reader<'_>, bare_lf: &mut bool) -> Result<String, Stop> {
    let mut value = Vec::new();
    loop {
        match next(reader)? {
            b'\r' => {
                expect(reader, b"\n")?;
                break;
            }
            b'\n' => {
                *bare_lf = true;
                break;
            }
            byte if is_text(byte) => value.push(byte),
            _ => return Err(BAD),
        }
    }
    Ok(trim(&latin1(&value)).to_owned())
}

impl Head {
    /// The values of a field, line by line.
    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.lines(name).is_empty()
    }

    /// The value of a field that stands once; one that stands twice counts as absent.
    pub(crate) fn once(&self, name: &str) -> Option<&str> {
        match self.lines(name)[..] {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The items of a list field.
    pub(crate) fn items(&self, name: &str) -> Vec<&str> {
        self.lines(name).into_iter().flat_map(|line| line.split(',')).map(trim).collect()
    }

    fn lists(&self, name: &str, wanted: &str) -> bool {
        self.items(name).iter().any(|item| item.eq_ignore_ascii_case(wanted))
    }

    pub(crate) fn is_1_0(&self) -> bool {
        self.minor_version == 0
    }

    pub(crate) fn persists(&self) -> bool {
        !self.lists("connection", "close") && (!self.is_1_0() || self.lists("connection", "keep-alive"))
    }

    pub(crate) fn expects_continue(&self) -> bool {
        self.lists("expect", "100-continue")
    }

    pub(crate) fn framing(&self) -> Framing {
        if self.has("transfer-encoding") {
            return Framing::Chunked;
        }
        match self.lines("content-length").first().and_then(|length| number(length)) {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        }
    }

    /// Section 7, what is 400 for a field's sake.
    fn is_malformed(&self) -> bool {
        let hosts = self.lines("host");
        let lengths: Vec<Option<u128>> = self.lines("content-length").into_iter().map(number).collect();
        let codings = self.lines("transfer-encoding");
        hosts.len() > 1
            || (hosts.is_empty() && !self.is_1_0())
            || !hosts.iter().all(|host| is_host(host))
            || lengths.iter().any(|length| length.is_none() || *length != lengths[0])
            || codings.len() > 1
            || !codings.iter().all(|coding| coding.eq_ignore_ascii_case("chunked"))
            || (!codings.is_empty() && (self.is_1_0() || !lengths.is_empty()))
    }
}

/// `uri-host [ ":" port ]`, RFC 9110 §7.2 and RFC 3986 §3.2.2. Nothing at all is a host.
pub(crate) fn is_host(text: &str) -> bool {
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((literal, behind)) = bracketed.split_once(']') else {
            return false;
        };
        let port = behind.strip_prefix(':').unwrap_or("0");
        return is_ip_literal(literal) && is_port(port) && (behind.is_empty() || behind.starts_with(':'));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    is_reg_name(name) && is_port(port)
}

fn is_port(port: &str) -> bool {
    port.is_empty() || number(port).is_some_and(|number| number <= 65535)
}

fn is_ip_literal(literal: &str) -> bool {
    if literal.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let future = literal.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.'));
    future.is_some_and(|(version, address)| {
        !version.is_empty()
            && version.chars().all(|c| c.is_ascii_hexdigit())
            && !address.is_empty()
            && address.chars().all(|c| c == ':' || is_name_char(c))
    })
}

/// Unreserved or sub-delims.
fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c)
}

fn is_reg_name(name: &str) -> bool {
    let mut parts = name.split('%');
    let before_escapes = parts.next().unwrap_or_default();
    before_escapes.chars().all(is_name_char)
        && parts.all(|part| {
            let chars: Vec<char> = part.chars().collect();
            chars.len() >= 2
                && chars[..2].iter().all(char::is_ascii_hexdigit)
                && chars[2..].iter().all(|c| is_name_char(*c))
        })
}
