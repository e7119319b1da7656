//! Who a request comes from, as the proxies before this server tell it: `X-Forwarded-For`, and `Forwarded` (RFC 7239). Pure.
//!
//! It is for logs: anybody can write such a field, so nothing is decided by it. Each proxy adds whom it has seen at the end, so
//! that the fields are read from there, and only as far as the proxies are trusted.

use std::net::{IpAddr, Ipv6Addr};

/// The client that the head of a request names: the last address that is not `trusted`, else the first. A head need not be well
/// formed. None: it names nobody.
pub fn client(head: &[u8], trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let values = |name: &str| {
        let of_name =
            head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| field(line, name)).collect::<Vec<_>>();
        of_name.join(",")
    };
    let list = values("x-forwarded-for");
    let named = |list: &str, item: fn(&str) -> Option<IpAddr>| {
        let mut named = None;
        for element in split(list, b',').into_iter().rev() {
            // What stands in front of something unknown was said by somebody unknown.
            let Some(address) = item(element) else { break };
            named = Some(address);
            if !trusted(address) {
                break;
            }
        }
        named
    };
    named(&list, node).or_else(|| named(&values("forwarded"), element))
}

fn field<'l>(line: &'l [u8], name: &str) -> Option<&'l str> {
    let (first, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    first.eq_ignore_ascii_case(name).then(|| value.trim())
}

/// The parts between `separator`s that are not within quotes.
fn split(list: &str, separator: u8) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(list[start..].trim());
    parts
}

/// `for=` of an element of `Forwarded`.
fn element(element: &str) -> Option<IpAddr> {
    let pairs = split(element, b';').into_iter().filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for")).map(|(_, value)| value).next()?;
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address, with or without a port.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        return Some(IpAddr::from(address.parse::<Ipv6Addr>().ok()?).to_canonical());
    }
    text.rsplit_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(fields: &str) -> String {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        client(head.as_bytes(), trusted).map_or("-".to_owned(), |address| address.to_string())
    }

    #[test]
    fn the_last_who_is_not_trusted() {
        for (fields, expected) in [
            ("X-Forwarded-For: 192.0.2.1", "192.0.2.1"),
            ("x-forwarded-for: 6.6.6.6, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
            ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1:4711,10.0.0.1", "192.0.2.1"),
            ("X-Forwarded-For: 10.0.0.2, 10.0.0.1", "10.0.0.2"),
            ("X-Forwarded-For: 6.6.6.6, unknown, 10.0.0.1", "10.0.0.1"),
            ("X-Forwarded-For: <script>", "-"),
            ("X-Forwarded-For:", "-"),
            ("X-Forwarded-For: [2001:db8::1]:80", "2001:db8::1"),
            ("X-Forwarded-For: ::ffff:192.0.2.1", "192.0.2.1"),
            ("Forwarded: for=6.6.6.6, for=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"),
            ("Forwarded: For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("Forwarded: for=6.6.6.6;host=\"a,b;for=7.7.7.7\\\"\", for=_hidden", "-"),
            ("Forwarded: host=\"a,b;for=7.7.7.7\";for=192.0.2.9", "192.0.2.9"),
            ("X-Forwarded-Fort: 192.0.2.1", "-"),
            ("Other: x", "-"),
        ] {
            assert_eq!(named(fields), expected, "{fields}");
        }
    }

    #[test]
    fn any_bytes() {
        for head in [&b""[..], b"\n", b"\xff\nX-Forwarded-For: \xff", b"a\nForwarded: for=\"", b"a\nForwarded: \"\\"] {
            assert_eq!(client(head, |_| false), None);
        }
    }
}
