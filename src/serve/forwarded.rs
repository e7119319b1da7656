//! Who a request comes from, as the proxies before this server tell it: `X-Forwarded-For`, and `Forwarded` (RFC 7239). Pure.
//!
//! It is for logs: anybody can write such a field, so nothing is decided by it. Each proxy adds whom it has seen at the end, so
//! that the fields are read from there, and only as far as the proxies are trusted.

use std::net::{IpAddr, Ipv6Addr};

/// The client that the head of a request names: the last address that is not `trusted`, else the first of those that are. A head
/// need not be well formed. Where there is an `X-Forwarded-For`, `Forwarded` is not asked: a proxy that writes the one may pass on
/// what a client has written as the other. None: it names nobody.
pub fn client(head: &[u8], trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let first_line = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |end| end + 1);
    let fields = &head[first_line..];
    let values = |name: &str| -> Vec<&[u8]> {
        // Read from the end: what stands there was added last.
        fields.rsplit(|byte| *byte == b'\n').filter_map(|line| field(line, name)).collect()
    };
    let lists = values("x-forwarded-for");
    match lists.is_empty() {
        false => last(lists.iter().flat_map(|list| list.rsplit(|byte| *byte == b',')).map(node), trusted),
        true => last(values("forwarded").iter().flat_map(|list| split_from_end(list, b',')).map(element), trusted),
    }
}

fn last(addresses: impl Iterator<Item = Option<IpAddr>>, trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut named = None;
    // What stands in front of something unknown was said by somebody unknown.
    for address in addresses.map_while(|address| address) {
        named = Some(address);
        if !trusted(address) {
            break;
        }
    }
    named
}

fn field<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| &line[colon + 1..])
}

/// The parts between `separator`s that are not within quotes, the last first: an open quote swallows what stands before it.
fn split_from_end(list: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut end, mut quoted) = (list.len(), false);
    for (at, byte) in list.iter().enumerate().rev() {
        match byte {
            b'"' if !is_escaped(&list[..at]) => quoted = !quoted,
            _ if *byte == separator && !quoted => {
                parts.push(&list[at + 1..end]);
                end = at;
            }
            _ => {}
        }
    }
    parts.push(&list[..end]);
    parts
}

/// What follows `before` has a backslash that counts.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// `for=` of an element of `Forwarded`.
fn element(element: &[u8]) -> Option<IpAddr> {
    let named = split_from_end(element, b';').into_iter().find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        pair[..equals].trim_ascii().eq_ignore_ascii_case(b"for").then(|| pair[equals + 1..].trim_ascii())
    })?;
    node(named.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(named))
}

/// An address, with or without a port.
fn node(bytes: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(bytes.trim_ascii()).ok()?;
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
            // What the client has written hides nothing that a proxy has added, and is not asked beside it.
            ("X-Forwarded-For: \"x, 192.0.2.1\r\nForwarded: for=6.6.6.6", "192.0.2.1"),
            ("X-Forwarded-For: nonsense\r\nForwarded: for=6.6.6.6", "-"),
            ("X-Forwarded-For: \u{e9}, 192.0.2.1", "192.0.2.1"),
            ("Forwarded: for=\"x, for=192.0.2.1", "192.0.2.1"),
            ("Forwarded: for=\"x\r\nForwarded: for=192.0.2.1", "192.0.2.1"),
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
