//! The PROXY protocol, versions 1 and 2: what a balancer says of a connection before the client's first byte. Pure.
//!
//! It follows the specification that HAProxy publishes as `proxy-protocol.txt`, and guesses nothing: what does not begin with
//! a header, whole and well formed, is malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::limits::MAX_PROXY_HEADER;

/// What the bytes at the beginning of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Partial,
    /// A header.
    Complete {
        /// Its bytes; behind them are the client's.
        len: usize,
        /// Who has connected to the balancer. None: it does not say, or it is the balancer itself.
        source: Option<SocketAddr>,
    },
    /// No header.
    Malformed,
}

/// The longest line of version 1, with its end.
const MAX_LINE: usize = 107;

const LINE_BEGINS: &[u8] = b"PROXY ";

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and protocol, the length of the rest.
const FIXED: usize = 16;

const _: () = assert!(MAX_PROXY_HEADER > MAX_LINE && MAX_PROXY_HEADER > FIXED + UNIX_ADDRESSES);

/// Reads the header that `bytes` begin with.
pub fn parse(bytes: &[u8]) -> Parsed {
    let begins_like = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins_like(LINE_BEGINS) {
        line(bytes)
    } else if begins_like(SIGNATURE) {
        binary(bytes).unwrap_or(Parsed::Malformed)
    } else {
        Parsed::Malformed
    }
}

fn line(bytes: &[u8]) -> Parsed {
    let within = &bytes[..bytes.len().min(MAX_LINE)];
    // A carriage return stands nowhere but at the end.
    let Some(end) = memchr::memchr2(b'\r', b'\n', within) else {
        return if within.len() < MAX_LINE { Parsed::Partial } else { Parsed::Malformed };
    };
    match within[end..] {
        [b'\r'] if within.len() < MAX_LINE => Parsed::Partial,
        [b'\r', b'\n', ..] => match words(&within[..end]) {
            Some(source) => Parsed::Complete { len: end + 2, source },
            None => Parsed::Malformed,
        },
        _ => Parsed::Malformed,
    }
}

/// The source that a line names, if it is well formed.
fn words(line: &[u8]) -> Option<Option<SocketAddr>> {
    // What may stand behind it means nothing.
    if line.strip_prefix(b"PROXY UNKNOWN").is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")) {
        return Some(None);
    }
    let mut words = std::str::from_utf8(line).ok()?.split(' ').skip(1);
    let source = match words.next()? {
        "TCP4" => addresses::<Ipv4Addr>(&mut words)?,
        "TCP6" => addresses::<Ipv6Addr>(&mut words)?,
        _ => return None,
    };
    words.next().is_none().then_some(Some(source))
}

fn addresses<'w, A>(words: &mut impl Iterator<Item = &'w str>) -> Option<SocketAddr>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut address = || words.next()?.parse::<A>().ok();
    let (source, _) = (address()?, address()?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    Some(SocketAddr::new(source.into(), port))
}

fn port(digits: &str) -> Option<u16> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| is_plain)
}

/// Two paths of a Unix socket.
const UNIX_ADDRESSES: usize = 216;

/// None: malformed.
fn binary(bytes: &[u8]) -> Option<Parsed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        // What is here of it is judged when it is whole.
        return Some(Parsed::Partial);
    };
    let [version_and_command, family, high, low] = fixed[SIGNATURE.len()..] else { return None };
    let len = usize::from(u16::from_be_bytes([high, low]));
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return None,
    };
    let least = match family {
        // Whatever a balancer says of itself, and what it does not say of others.
        _ if is_local => 0,
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => UNIX_ADDRESSES,
        // Datagrams, or something that is not in the specification.
        _ => return None,
    };
    if len < least || FIXED + len > MAX_PROXY_HEADER {
        return None;
    }
    let Some(addresses) = rest.get(..len) else { return Some(Parsed::Partial) };
    let source = match family {
        _ if is_local => None,
        0x11 => source::<4>(addresses),
        0x21 => source::<16>(addresses),
        _ => None,
    };
    Some(Parsed::Complete { len: FIXED + len, source })
}

/// The first of two addresses, and the first of the two ports behind them.
fn source<const N: usize>(addresses: &[u8]) -> Option<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    let address = addresses.first_chunk::<N>()?;
    let port = addresses.get(2 * N..)?.first_chunk()?;
    Some(SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[version_and_command, family], &len, rest].concat()
    }

    fn complete(len: usize, source: &str) -> Parsed {
        Parsed::Complete { len, source: Some(source.parse().unwrap()) }
    }

    #[test]
    fn lines() {
        let v4 = b"PROXY TCP4 192.0.2.1 192.0.2.2 65535 80\r\n";
        assert_eq!(parse(v4), complete(v4.len(), "192.0.2.1:65535"));
        assert_eq!(parse(b"PROXY TCP6 2001:db8::1 ::1 0 80\r\nGET"), complete(33, "[2001:db8::1]:0"));
        for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff ffff 65535 65535\r\n"] {
            assert_eq!(parse(unknown.as_bytes()), Parsed::Complete { len: unknown.len(), source: None });
        }
        for bad in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), Parsed::Malformed, "{bad:?}");
        }
        let longest = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - 16));
        assert_eq!(parse(longest(107).as_bytes()), Parsed::Complete { len: 107, source: None });
        assert_eq!(parse(longest(108).as_bytes()), Parsed::Malformed);
    }

    #[test]
    fn binaries() {
        let v4 = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0, 80];
        let v6: Vec<u8> = [[0x20; 16], [0x21; 16]].concat().into_iter().chain([1, 0, 0, 80]).collect();
        assert_eq!(parse(&v2(0x21, 0x11, &v4)), complete(28, "192.0.2.1:4660"));
        assert_eq!(parse(&v2(0x21, 0x11, &[&v4[..], &[4, 0, 0]].concat())), complete(31, "192.0.2.1:4660"));
        let from = "[2020:2020:2020:2020:2020:2020:2020:2020]:256";
        assert_eq!(parse(&v2(0x21, 0x21, &v6)), complete(52, from));
        for (command, family, len) in
            [(0x20, 0x00, 0), (0x20, 0xff, 7), (0x21, 0x00, 0), (0x21, 0x00, 9), (0x21, 0x31, 216)]
        {
            assert_eq!(parse(&v2(command, family, &vec![1; len])), Parsed::Complete { len: 16 + len, source: None });
        }
        for (command, family, len) in [
            (0x11, 0x11, 12),
            (0x22, 0x11, 12),
            (0x21, 0x11, 11),
            (0x21, 0x21, 35),
            (0x21, 0x31, 215),
            (0x21, 0x12, 12),
            (0x21, 0x22, 36),
            (0x21, 0x01, 12),
            (0x21, 0x41, 12),
            (0x21, 0x11, 4081),
        ] {
            assert_eq!(parse(&v2(command, family, &vec![1; len])), Parsed::Malformed, "{command:x} {family:x} {len}");
        }
        assert_eq!(parse(&v2(0x21, 0x11, &[1; 4080])), complete(4096, "1.1.1.1:257"));
    }

    #[test]
    fn every_beginning_is_partial_and_every_other_byte_of_a_signature_is_not() {
        let long = v2(0x21, 0x21, &[7; 40]);
        for whole in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"[..], b"PROXY UNKNOWN\r\n", &long] {
            for cut in 0..whole.len() {
                assert_eq!(parse(&whole[..cut]), Parsed::Partial, "{cut}");
            }
        }
        for (whole, signature) in [(&b"PROXY UNKNOWN\r\n"[..], 6), (&long, 12)] {
            for at in 0..signature {
                let mut other = whole.to_vec();
                other[at] ^= 1;
                assert_eq!(parse(&other), Parsed::Malformed, "{at}");
            }
        }
    }
}
