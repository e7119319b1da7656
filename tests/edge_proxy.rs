//! PROXY protocol headers: which are taken and which are not, however they are cut, and whose address they give.

use std::net::{IpAddr, SocketAddr};

use crate::{
    cases::{get, show},
    crowd::{assert_shed, is_served, side_by_side},
    harness::{Conn, Launch, Rng, Server, Site, own_address, wait_until},
};

/// What a version 2 header begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A server with a listener for balancers besides its plain one.
pub(crate) struct Edge {
    pub(crate) server: Server,
    pub(crate) proxy: SocketAddr,
}

impl Edge {
    /// It trusts this machine's balancers.
    pub(crate) fn of(site: &Site) -> Edge {
        Edge::with(Server::builder(site), "127.0.0.1")
    }

    pub(crate) fn with(launch: Launch, trusted: &str) -> Edge {
        let proxy = own_address();
        let server = launch.flag("--listen-proxy", proxy).flag("--trusted-proxies", trusted).start();
        Edge { server, proxy }
    }

    /// A balancer's connection that begins with these bytes.
    pub(crate) fn say(&self, bytes: impl AsRef<[u8]>) -> Conn {
        let mut conn = Conn::to(self.proxy);
        conn.send(bytes);
        conn
    }

    /// So many headers with this result.
    pub(crate) fn headers(&self, result: &str) -> u64 {
        headers(&self.server, result)
    }
}

/// Headers that the server has counted, by their result.
#[track_caller]
pub(crate) fn headers(server: &Server, result: &str) -> u64 {
    let text = server.admin_get("/metrics", &["Host: localhost"]).text();
    let of_result = |line: &&str| {
        line.starts_with("cloudia_proxy_headers_total{") && line.contains(&format!("result=\"{result}\""))
    };
    let samples: Vec<u64> =
        text.lines().filter(of_result).map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!samples.is_empty(), "no headers that were {result} in\n{text}");
    samples.iter().sum()
}

/// A version 1 header of a TCP connection.
pub(crate) fn v1(source: impl Into<IpAddr>) -> Vec<u8> {
    match source.into() {
        IpAddr::V4(ip) => format!("PROXY TCP4 {ip} 192.0.2.1 40000 80\r\n").into_bytes(),
        IpAddr::V6(ip) => format!("PROXY TCP6 {ip} 2001:db8::1 40000 80\r\n").into_bytes(),
    }
}

/// A version 2 header of a TCP connection.
pub(crate) fn v2(source: impl Into<IpAddr>) -> Vec<u8> {
    match source.into() {
        IpAddr::V4(ip) => raw2(0x21, 0x11, &v4_block(ip.octets())),
        IpAddr::V6(ip) => raw2(0x21, 0x21, &v6_block(ip.octets())),
    }
}

/// A version 2 header with any version, command, family and transport.
fn raw2(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_command, family], &length, block].concat()
}

fn v4_block(source: [u8; 4]) -> Vec<u8> {
    [&source[..], &[192, 0, 2, 1], &[0x9c, 0x40, 0, 80]].concat()
}

fn v6_block(source: [u8; 16]) -> Vec<u8> {
    [&source[..], &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0x9c, 0x40, 0, 80]].concat()
}

const V4: [u8; 4] = [198, 51, 100, 7];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];

/// Headers that are taken, with the source that they give.
fn good() -> Vec<(&'static str, Vec<u8>, Option<IpAddr>)> {
    let tlv = |kind: u8, value: &[u8]| [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat();
    let v4 = Some(IpAddr::from(V4));
    let v6 = Some(IpAddr::from(V6));
    let line = |text: &str| text.as_bytes().to_vec();
    let longest_unknown = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(longest_unknown.len(), 107);
    vec![
        ("v1 TCP4", line("PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n"), v4),
        ("v1 least ports", line("PROXY TCP4 198.51.100.7 192.0.2.1 0 0\r\n"), v4),
        ("v1 greatest ports", line("PROXY TCP4 198.51.100.7 192.0.2.1 65535 65535\r\n"), v4),
        (
            "v1 longest TCP4",
            line("PROXY TCP4 255.255.255.254 255.255.255.255 65535 65535\r\n"),
            "255.255.255.254".parse().ok(),
        ),
        ("v1 TCP6", line("PROXY TCP6 2001:db8:7:1::9 2001:db8::1 40000 80\r\n"), v6),
        ("v1 TCP6 in full", line("PROXY TCP6 2001:0db8:0007:0001:0000:0000:0000:0009 2001:db8::1 40000 80\r\n"), v6),
        ("v1 TCP6 in capitals", line("PROXY TCP6 2001:DB8:7:1::9 2001:DB8::1 40000 80\r\n"), v6),
        ("v1 TCP6 mapped", line("PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.1 40000 80\r\n"), v4),
        ("v1 UNKNOWN", line("PROXY UNKNOWN\r\n"), None),
        ("v1 UNKNOWN with addresses", line("PROXY UNKNOWN 198.51.100.7 192.0.2.1 40000 80\r\n"), None),
        ("v1 UNKNOWN with anything", line("PROXY UNKNOWN what else there is\r\n"), None),
        ("v1 longest UNKNOWN", line(&longest_unknown), None),
        ("v2 IPv4", raw2(0x21, 0x11, &v4_block(V4)), v4),
        ("v2 IPv4 with TLVs", raw2(0x21, 0x11, &[v4_block(V4), tlv(1, b"h2"), tlv(2, b"example.com")].concat()), v4),
        ("v2 IPv4 with a CRC that is wrong", raw2(0x21, 0x11, &[v4_block(V4), tlv(3, &[1, 2, 3, 4])].concat()), v4),
        (
            "v2 IPv4, 4096 bytes",
            raw2(0x21, 0x11, &[v4_block(V4), tlv(4, &vec![b'\n'; 4096 - 16 - 12 - 3])].concat()),
            v4,
        ),
        (
            "v2 IPv4 with a TLV that looks like a request",
            raw2(0x21, 0x11, &[v4_block(V4), tlv(0xe0, &get("/404"))].concat()),
            v4,
        ),
        ("v2 IPv6", raw2(0x21, 0x21, &v6_block(V6)), v6),
        ("v2 IPv6 with TLVs", raw2(0x21, 0x21, &[v6_block(V6), tlv(5, &[7; 128])].concat()), v6),
        ("v2 IPv6 mapped", v2("::ffff:198.51.100.7".parse::<std::net::Ipv6Addr>().unwrap()), v4),
        ("v2 Unix stream", raw2(0x21, 0x31, &[b'/'; 216]), None),
        ("v2 Unix stream with TLVs", raw2(0x21, 0x31, &[vec![0; 216], tlv(2, b"a")].concat()), None),
        ("v2 UNSPEC", raw2(0x21, 0x00, b""), None),
        ("v2 UNSPEC with a block", raw2(0x21, 0x00, &[0xff; 40]), None),
        ("v2 LOCAL", raw2(0x20, 0x00, b""), None),
        ("v2 LOCAL with a block", raw2(0x20, 0x00, &[0xff; 40]), None),
        ("v2 LOCAL with addresses", raw2(0x20, 0x11, &v4_block(V4)), None),
    ]
}

/// Lines of version 1 that are none.
fn bad1() -> Vec<(&'static str, Vec<u8>)> {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(108 - 16));
    assert_eq!(too_long.len(), 108);
    let mut found: Vec<(&'static str, Vec<u8>)> = vec![
        ("no field", b"PROXY\r\n".to_vec()),
        ("an empty field", b"PROXY \r\n".to_vec()),
        ("108 bytes", too_long.into_bytes()),
        ("no end", b"PROXY UNKNOWN ".iter().copied().chain([b'x'; 120]).collect()),
        ("a byte above ASCII", b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 8\xb2\r\n".to_vec()),
        ("a NUL", b"PROXY TCP4 198.51.100.7\x00192.0.2.1 40000 80\r\n".to_vec()),
    ];
    let lines = [
        ("small letters", "proxy TCP4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a small protocol", "PROXY tcp4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a small UNKNOWN", "PROXY unknown\r\n"),
        ("another protocol", "PROXY TCP5 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a protocol without its number", "PROXY TCP 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("datagrams", "PROXY UDP4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("TCP4 with IPv6", "PROXY TCP4 2001:db8::9 2001:db8::1 40000 80\r\n"),
        ("TCP6 with IPv4", "PROXY TCP6 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("TCP4 to IPv6", "PROXY TCP4 198.51.100.7 2001:db8::1 40000 80\r\n"),
        ("a space before", " PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a line before", "\r\nPROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a space behind", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80 \r\n"),
        ("two spaces", "PROXY TCP4  198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a tab", "PROXY\tTCP4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("no space", "PROXYTCP4 198.51.100.7 192.0.2.1 40000 80\r\n"),
        ("a field less", "PROXY TCP4 198.51.100.7 192.0.2.1 40000\r\n"),
        ("no addresses", "PROXY TCP4\r\n"),
        ("a field more", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80 1\r\n"),
        ("an empty port", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 \r\n"),
        ("a zero before the port", "PROXY TCP4 198.51.100.7 192.0.2.1 040000 80\r\n"),
        ("zeros for a port", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 00\r\n"),
        ("a plus", "PROXY TCP4 198.51.100.7 192.0.2.1 +40000 80\r\n"),
        ("a minus", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 -80\r\n"),
        ("a port too great", "PROXY TCP4 198.51.100.7 192.0.2.1 65536 80\r\n"),
        ("a port far too great", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 18446744073709551696\r\n"),
        ("a port in hexadecimal", "PROXY TCP4 198.51.100.7 192.0.2.1 0x50 80\r\n"),
        ("a port with a letter", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80a\r\n"),
        ("an octet too great", "PROXY TCP4 198.51.100.256 192.0.2.1 40000 80\r\n"),
        ("three octets", "PROXY TCP4 198.51.100 192.0.2.1 40000 80\r\n"),
        ("five octets", "PROXY TCP4 198.51.100.7.1 192.0.2.1 40000 80\r\n"),
        ("a zero before an octet", "PROXY TCP4 198.051.100.7 192.0.2.1 40000 80\r\n"),
        ("a number for an address", "PROXY TCP4 3325256711 192.0.2.1 40000 80\r\n"),
        ("a name", "PROXY TCP4 localhost 192.0.2.1 40000 80\r\n"),
        ("a zone", "PROXY TCP6 fe80::1%lo 2001:db8::1 40000 80\r\n"),
        ("brackets", "PROXY TCP6 [2001:db8::9] 2001:db8::1 40000 80\r\n"),
        ("nine groups", "PROXY TCP6 1:2:3:4:5:6:7:8:9 2001:db8::1 40000 80\r\n"),
        ("seven groups", "PROXY TCP6 1:2:3:4:5:6:7 2001:db8::1 40000 80\r\n"),
        ("two gaps", "PROXY TCP6 1::2::3 2001:db8::1 40000 80\r\n"),
        ("three colons", "PROXY TCP6 1:::3 2001:db8::1 40000 80\r\n"),
        ("a group of five digits", "PROXY TCP6 2001:0db80::9 2001:db8::1 40000 80\r\n"),
        ("a port on the address", "PROXY TCP4 198.51.100.7:40000 192.0.2.1 40000 80\r\n"),
        ("LF alone", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\nGET / HTTP/1.1\r\n\r\n"),
        ("CR alone", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\rX\r\n"),
        ("two CRs", "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\r\n"),
    ];
    found.extend(lines.map(|(name, text)| (name, text.as_bytes().to_vec())));
    found
}

/// Headers of version 2 that are none, and what is no header at all.
fn bad2() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for at in 0..SIGNATURE.len() {
        let mut header = v2(V4);
        header[at] ^= 0x20;
        found.push((format!("v2, byte {at} of the signature"), header));
    }
    for version in [0x01, 0x11, 0x31, 0xf1] {
        found.push((format!("v2, version and command {version:#x}"), raw2(version, 0x11, &v4_block(V4))));
    }
    for command in 0x22..=0x2f {
        found.push((format!("v2, version and command {command:#x}"), raw2(command, 0x11, &v4_block(V4))));
    }
    for family in [0x01, 0x02, 0x10, 0x12, 0x13, 0x1f, 0x22, 0x32, 0x33, 0x41, 0x51, 0xf1, 0xff] {
        found.push((format!("v2, family and transport {family:#x}"), raw2(0x21, family, &[1; 216])));
    }
    for (family, whole) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        for length in [0, 1, whole - 1] {
            let header = raw2(0x21, family, &vec![1; length]);
            found.push((format!("v2, family {family:#x} in {length} bytes"), header));
        }
    }
    for length in [4096 - 16 + 1, 65535] {
        found.push((format!("v2 of {length} bytes and its head"), raw2(0x21, 0x11, &vec![0; length])));
    }
    for (name, bytes) in [
        ("a request", get("/alive.txt")),
        ("a request that begins as a header", b"PROPFIND / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec()),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("a hello of TLS", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), vec![7; 100]].concat()),
        ("blank lines", b"\r\n\r\n\r\n\r\n".repeat(8)),
        ("noise", (0..=255).rev().collect()),
        ("NULs", vec![0; 300]),
    ] {
        found.push((name.to_owned(), bytes));
    }
    found
}

fn bad() -> Vec<(String, Vec<u8>)> {
    bad1().into_iter().map(|(name, bytes)| (format!("v1, {name}"), bytes)).chain(bad2()).collect()
}

/// The connection ends, and nothing was said. Where the server has not read all, that is a reset.
pub(crate) fn ended_without_a_word(conn: &mut Conn) -> Result<(), String> {
    match conn.closed() {
        Err(why) if !(why.contains("reset") && why.ends_with("after \"\"")) => Err(why),
        _ => Ok(()),
    }
}

#[track_caller]
fn assert_nothing_wrong(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} wrong:\n{}", faults.len(), faults.join("\n"));
}

/// Where to cut a thing: a long one not everywhere.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    (1..length).filter(move |at| length <= 320 || *at < 40 || at % 251 == 0 || *at > length - 20)
}

#[test]
fn good_headers_are_taken_and_the_request_behind_them_is_answered() {
    let site = Site::new();
    let edge = Edge::of(&site);
    let (mut faults, count) = (Vec::new(), good().len());
    for (name, header, _) in good() {
        // In one packet with two requests, and before them.
        let mut conn = edge.say([header.clone(), get("/alive.txt"), get("/alive.txt")].concat());
        let answers = (conn.try_recv(false).map(|a| a.status), conn.try_recv(false).map(|a| a.status), conn.open());
        if answers != (Ok(200), Ok(200), Ok(())) {
            faults.push(format!("{name}: {answers:?}"));
        }
        let mut conn = edge.say(header);
        if let Err(why) = conn.open().and_then(|()| conn.open()) {
            faults.push(format!("{name}: {why}"));
        }
    }
    assert_nothing_wrong(faults);
    assert_eq!(
        (edge.headers("accepted"), edge.headers("malformed"), edge.headers("untrusted")),
        (2 * count as u64, 0, 0)
    );
}

#[test]
fn good_headers_may_be_cut_anywhere() {
    let site = Site::new();
    let edge = Edge::of(&site);
    let cases = good();
    let faults = side_by_side(4, |part| {
        let mut faults = Vec::new();
        for (name, header, _) in cases.iter().skip(part).step_by(4) {
            let bytes = [header.clone(), get("/alive.txt")].concat();
            for at in cuts(bytes.len()) {
                let mut conn = Conn::to(edge.proxy);
                conn.send_cut(&bytes, &[at]);
                let answer = conn.try_recv(false).map(|answer| answer.text());
                if answer.as_deref() != Ok("alive\n") {
                    faults.push(format!("{name} cut at {at}: {answer:?}"));
                }
            }
            // Each byte alone.
            if bytes.len() < 200 {
                let mut conn = Conn::to(edge.proxy);
                conn.send_cut(&bytes, &(1..bytes.len()).collect::<Vec<_>>());
                faults.extend(conn.try_recv(false).err().map(|why| format!("{name} in bytes: {why}")));
            }
        }
        faults
    });
    assert_nothing_wrong(faults.concat());
}

#[test]
fn bad_headers_are_closed_at_once_without_an_answer() {
    let site = Site::new();
    // Patience that no test has: who is closed is closed for what was said.
    let edge = Edge::with(Server::builder(&site).flag("--header-timeout", 600), "127.0.0.1");
    let mut faults = Vec::new();
    assert!(bad().len() > 90);
    for (name, header) in bad() {
        for behind in [&b""[..], &get("/alive.txt")] {
            let mut conn = edge.say([&header, behind].concat());
            faults
                .extend(ended_without_a_word(&mut conn).err().map(|why| format!("{name} ({}): {why}", show(&header))));
        }
    }
    assert_nothing_wrong(faults);
    assert_eq!(
        (edge.headers("accepted"), edge.headers("malformed"), edge.headers("untrusted")),
        (0, 2 * bad().len() as u64, 0)
    );
    edge.server.connect().assert_open();
}

#[test]
fn bad_headers_may_be_cut_anywhere() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--header-timeout", 600), "127.0.0.1");
    let cases = bad();
    let faults = side_by_side(4, |part| {
        let mut faults = Vec::new();
        for (name, header) in cases.iter().skip(part).step_by(4).filter(|(_, header)| header.len() < 300) {
            let bytes = [header.clone(), get("/alive.txt")].concat();
            for at in cuts(header.len() + 1).step_by(3) {
                let mut conn = Conn::to(edge.proxy);
                conn.send_cut(&bytes, &[at]);
                faults.extend(ended_without_a_word(&mut conn).err().map(|why| format!("{name} cut at {at}: {why}")));
            }
        }
        faults
    });
    assert_nothing_wrong(faults.concat());
}

/// A source that has one place has none left, while those without a source have as many as they like.
#[test]
fn the_source_is_the_one_in_the_header() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--max-connections-per-ip", 1), "127.0.0.1");
    for (name, header, source) in good() {
        let mut held = edge.say(&header);
        assert!(is_served(&mut held), "{name}");
        match source {
            Some(source) => {
                for again in [v1(source), v2(source)] {
                    let mut other = edge.say([again, get("/alive.txt")].concat());
                    assert_shed(&mut other);
                }
            }
            None => {
                let mut others: Vec<Conn> = (0..5).map(|_| edge.say(&header)).collect();
                others.iter_mut().for_each(Conn::assert_open);
            }
        }
        drop(held);
        wait_until("its place is given back", || crate::crowd::open(&edge.server) == 0);
    }
}

/// The second header is what the first request begins with, and no request begins so.
#[test]
fn a_header_is_taken_once() {
    let site = Site::new();
    let edge = Edge::of(&site);
    for header in [v1(V4), v2(V4)] {
        let mut conn = edge.say([header.clone(), header, get("/alive.txt")].concat());
        assert_eq!(conn.recv().status, 400);
        conn.assert_closed();
    }
}

#[test]
fn a_plain_listener_understands_none() {
    let site = Site::new();
    let edge = Edge::of(&site);
    for (name, header, _) in good() {
        let mut conn = edge.server.connect();
        conn.send([header, get("/alive.txt")].concat());
        let answer = conn.recv();
        assert_eq!(answer.status, 400, "{name}: {answer}");
        conn.assert_closed();
    }
    assert_eq!((edge.headers("accepted"), edge.headers("malformed")), (0, 0));
}

/// Bytes of good headers changed, left out or doubled: it is served, told that its request is bad, or closed. Nothing else happens.
#[test]
fn damaged_headers_do_no_harm() {
    let site = Site::new();
    let edge = Edge::with(Server::builder(&site).flag("--header-timeout", 1), "127.0.0.1");
    let cases = good();
    let mut rng = Rng::seeded();
    let mut pending = Vec::new();
    for _ in 0..600 {
        let (_, header, _) = &cases[rng.below(cases.len())];
        let mut bytes = [header.clone(), get("/alive.txt")].concat();
        for _ in 0..=rng.below(3) {
            let at = rng.below(header.len().min(bytes.len()));
            match rng.below(4) {
                0 => bytes[at] = rng.next() as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, b"\r\n 0\0"[rng.below(5)]),
            }
        }
        pending.push((edge.say(&bytes), bytes));
    }
    for (mut conn, bytes) in pending {
        match conn.try_recv(false) {
            Ok(answer) => {
                assert!([200, 400, 404, 408, 501, 505].contains(&answer.status), "{}: {answer}", show(&bytes))
            }
            Err(why) => assert!(
                why.contains("closed before an answer: \"\"") || why.contains("reset"),
                "{}: {why}",
                show(&bytes)
            ),
        }
    }
    assert_eq!(crate::crowd::metric(&edge.server, "cloudia_panics_total"), 0);
    edge.say(v2(V4)).assert_open();
}
