//! Chunks that two hops may measure differently, and trailers that say what a head should.

use super::{
    Vector,
    Verdict::{self, Closed, Open, Refused},
};

/// Rule, the bytes behind a head that says `Transfer-Encoding: chunked`, verdict.
const BODIES: &[(&str, &[u8], Verdict)] = &[
    // RFC 9112 §7.1: `1*HEXDIG`.
    ("RFC 9112 7.1", b"+0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"-0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"-1\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"0x0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"0x25\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"2_5\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b" 25\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"\t0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"25 \r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"2 5\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"2,5\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"25h\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b";x\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"\0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"\xd9\xa0\r\n\r\n@@", Refused(400)),
    // Sizes that wrap around in 32 or 64 bits to 0 or 37.
    ("RFC 9112 7.1", b"100000000\r\n\r\n@@", Closed(&[200])),
    ("RFC 9112 7.1", b"100000025\r\n@@\r\n0\r\n\r\n", Closed(&[200])),
    ("RFC 9112 7.1", b"FFFFFFFFFFFFFFFF\r\n@@", Closed(&[200])),
    ("RFC 9112 7.1", b"10000000000000000\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"10000000000000025\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"fffffffffffffffffffffffffffffff0\r\n@@", Refused(400)),
    // Padding that only a size nobody can count needs.
    ("RFC 9112 7.1", b"00000000000000025\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"0000000000000025\r\n@@\r\n0\r\n\r\n", Open(&[200])),
    ("RFC 9112 7.1", b"25\r\n@@\r\n0000\r\n\r\n", Open(&[200])),
    // Line ends.
    ("RFC 9112 2.2", b"25\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 2.2", b"25\r@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 2.2", b"25\r\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 2.2", b"25\r\n@@\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 2.2", b"0\n\n@@", Refused(400)),
    ("RFC 9112 2.2", b"0\r\n\n@@", Refused(400)),
    ("RFC 9112 2.2", b"0\r\n\rX@@", Refused(400)),
    // A size that is not the length of its data.
    ("RFC 9112 7.1", b"24\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"26\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1", b"1\r\nXX0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"1\r\nX0\r\n\r\n@@", Refused(400)),
    // Extensions: what ends their line ends it for everyone.
    ("RFC 9112 7.1.1", b"0;x\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1.1", b"25;\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1.1", b"2;\nxx\r\n25\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 7.1.1", b"0;\rx\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1.1", b"0;x=\0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1.1", b"0;x=\x7f\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1.1", b"25 ; a\r\n@@\r\n0\r\n\r\n", Open(&[200])),
    ("RFC 9112 7.1.1", b"25;a=b;c=\"d\"\r\n@@\r\n0\r\n\r\n", Open(&[200])),
    // Trailers: never of the head, and fields like any other.
    ("RFC 9110 6.5.1", b"0\r\nContent-Length: 37\r\n\r\n@@", Open(&[200, 200])),
    ("RFC 9110 6.5.1", b"0\r\nTransfer-Encoding: chunked\r\n\r\n@@", Open(&[200, 200])),
    ("RFC 9110 6.5.1", b"0\r\nHost: other\r\nConnection: close\r\n\r\n@@", Open(&[200, 200])),
    ("RFC 9112 7.1.2", b"0\r\n@@\r\n", Refused(400)),
    ("RFC 9112 7.1.2", b"0\r\nX\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1.2", b"0\r\n: x\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.1", b"0\r\nX : y\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"0\r\nX: y\r\n z\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"0\r\n X: y\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"0\r\nX: y\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"0\r\nX: y\rZ: z\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"0\r\nX: \0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 7.1", b"0\r\n\r\n@@", Open(&[200, 200])),
];

pub(super) fn vectors() -> impl Iterator<Item = Vector> {
    let chunked = |rule, body: &[u8], verdict| {
        let head = b"GET /a.txt HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        Vector::new(rule, &[head, body].concat(), verdict)
    };
    let long = "x".repeat(5000);
    let extension = format!("0;{long}\r\n\r\n@@");
    let many = format!("{}0\r\n\r\n@@", "1;xxxxxxxxxxxxxxxxxxxx\r\nX\r\n".repeat(300));
    let trailer = format!("0\r\nX: {long}\r\n\r\n@@");
    let over = [("RFC 9112 7.1.1", extension), ("RFC 9112 7.1.1", many), ("RFC 9112 7.1.2", trailer)];
    let over = over.map(|(rule, body)| chunked(rule, body.as_bytes(), Refused(400)));
    BODIES.iter().map(move |(rule, body, verdict)| chunked(rule, body, *verdict)).chain(over)
}
