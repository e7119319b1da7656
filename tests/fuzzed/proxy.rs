//! Any bytes at the beginning of a connection that a balancer introduces, and any head to who is named in it: the header of the
//! PROXY protocol is read as its specification has it, no cut changes a verdict, and nothing but an address comes of a field.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use cloudia::{
    listen::proxy::{self, Parsed},
    serve::forwarded,
};

/// Of version 1, with its end, and of version 2, with all that follows its addresses.
const LONGEST: [usize; 2] = [107, 4096];

pub(crate) fn check(data: &[u8]) {
    let whole = proxy::parse(data);
    let expected = read(data);
    // A server may wait for more before it says what it knows already.
    let may_wait = expected == Parsed::Malformed && whole == Parsed::Partial && data.len() < LONGEST[0];
    assert!(whole == expected || may_wait, "{whole:?}, expected {expected:?}: {}", data.escape_ascii());
    for cut in 0..data.len().min(300) {
        let part = proxy::parse(&data[..cut]);
        assert!(part == Parsed::Partial || part == whole, "cut at {cut}: {part:?}, then {whole:?}");
    }
    if let Parsed::Complete { len, .. } = whole {
        assert!(proxy::parse(&data[..len]) == whole && proxy::parse(&data[..len - 1]) == Parsed::Partial);
    }
    named(data);
}

/// Of the addresses in a head one that is not trusted is named, or one at least that stands in it.
fn named(head: &[u8]) {
    let nobody = forwarded::client(head, |_| false);
    let everybody = forwarded::client(head, |_| true);
    assert_eq!(nobody.is_some(), everybody.is_some(), "{}", head.escape_ascii());
    let trusted = |address: IpAddr| Some(address) == nobody;
    let beyond = forwarded::client(head, trusted);
    assert_eq!(beyond.is_some(), nobody.is_some(), "{}", head.escape_ascii());
}

/// The header as `proxy-protocol.txt` has it, slow and obvious.
fn read(data: &[u8]) -> Parsed {
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    if data.starts_with(b"PROXY ") || b"PROXY ".starts_with(data) {
        return read_line(data);
    }
    if data.starts_with(signature) || signature.starts_with(data) {
        return read_binary(data);
    }
    Parsed::Malformed
}

fn read_line(data: &[u8]) -> Parsed {
    let front = &data[..data.len().min(LONGEST[0])];
    let text: String = front.iter().copied().map(char::from).collect();
    let Some((line, _)) = text.split_once("\r\n") else {
        let is_open = !text.trim_end_matches('\r').contains(['\r', '\n']) && !text.ends_with("\r\r");
        return if is_open && data.len() < LONGEST[0] { Parsed::Partial } else { Parsed::Malformed };
    };
    if line.contains(['\r', '\n']) {
        return Parsed::Malformed;
    }
    let len = line.chars().count() + 2;
    let words: Vec<&str> = line.split(' ').collect();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", from, to, from_port, to_port] => match (v4(from), v4(to), port(from_port), port(to_port)) {
            (Some(from), Some(_), Some(port), Some(_)) => Some(SocketAddr::new(from, port)),
            _ => return Parsed::Malformed,
        },
        ["PROXY", "TCP6", from, to, from_port, to_port] => match (v6(from), v6(to), port(from_port), port(to_port)) {
            (Some(from), Some(_), Some(port), Some(_)) => Some(SocketAddr::new(from, port)),
            _ => return Parsed::Malformed,
        },
        _ => return Parsed::Malformed,
    };
    Parsed::Complete { len, source }
}

fn v4(text: &str) -> Option<IpAddr> {
    let octets: Vec<&str> = text.split('.').collect();
    let is_sound = octets.len() == 4 && octets.iter().all(|octet| number(octet).is_some_and(|octet| octet < 256));
    is_sound.then(|| text.parse::<Ipv4Addr>().unwrap().into())
}

fn v6(text: &str) -> Option<IpAddr> {
    let is_sound = text.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
    text.parse::<Ipv6Addr>().ok().filter(|_| is_sound).map(IpAddr::from)
}

fn port(text: &str) -> Option<u16> {
    number(text).and_then(|number| u16::try_from(number).ok())
}

/// Decimal digits without a zero before them.
fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.len() < 6 && text.chars().all(|c| c.is_ascii_digit());
    (is_plain && (text == "0" || !text.starts_with('0'))).then(|| text.parse().unwrap())
}

fn read_binary(data: &[u8]) -> Parsed {
    if data.len() < 16 {
        return Parsed::Partial;
    }
    let (version, command) = (data[12] >> 4, data[12] & 15);
    let (family, transport) = (data[13] >> 4, data[13] & 15);
    let len = 16 + usize::from(data[14]) * 256 + usize::from(data[15]);
    let addresses = match (command, family, transport) {
        (0, ..) | (1, 0, 0) => 0,
        (1, 1, 1) => 12,
        (1, 2, 1) => 36,
        (1, 3, 1) => 216,
        _ => return Parsed::Malformed,
    };
    if version != 2 || len > LONGEST[1] || len < 16 + addresses {
        return Parsed::Malformed;
    }
    if data.len() < len {
        return Parsed::Partial;
    }
    let port = |at: usize| u16::from(data[at]) * 256 + u16::from(data[at + 1]);
    let source = match addresses {
        12 => {
            let address: [u8; 4] = data[16..20].try_into().unwrap();
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port(24)))
        }
        36 => {
            let address: [u8; 16] = data[16..32].try_into().unwrap();
            Some(SocketAddr::new(Ipv6Addr::from(address).into(), port(48)))
        }
        _ => None,
    };
    Parsed::Complete { len, source }
}
