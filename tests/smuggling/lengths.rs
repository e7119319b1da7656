//! Where a body ends: `Content-Length`, `Transfer-Encoding`, both, neither, and what looks like them.

use super::{
    Vector,
    Verdict::{self, Closed, Open, Refused, Silent},
};

/// Rule, field lines behind `Host` without the last line end, what follows the head, verdict. The body of 37 bytes is what
/// another hop may take for a request of its own.
const GET: &[(&str, &[u8], &[u8], Verdict)] = &[
    // CL.TE and TE.CL. RFC 9112 §6.3: either may be a smuggling attempt.
    ("RFC 9112 6.3", b"Content-Length: 42\r\nTransfer-Encoding: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.3", b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"25\r\n@@\r\n0\r\n\r\n", Refused(400)),
    ("RFC 9112 6.3", b"Transfer-Encoding: chunked\r\nContent-Length: 0", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.3", b"Content-Length: 0\r\nTransfer-Encoding: identity", b"@@", Refused(400)),
    ("RFC 9112 6.3", b"Content-Length: 0\r\nX: y\r\ntRANSFER-eNCODING: cHUNKED", b"0\r\n\r\n@@", Refused(400)),
    (
        "RFC 9112 6.3",
        b"Content-Length: 6\r\nContent-Length: 6\r\nTransfer-Encoding: chunked",
        b"0\r\n\r\nX@@",
        Refused(400),
    ),
    // TE.TE: hops that do not agree on whether there is a coding. The contract takes exactly one `chunked`.
    ("RFC 9112 6.1", b"Transfer-Encoding: xchunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunkedx", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: identity", b"@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: gzip, chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: identity, chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: \"chunked\"", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunked;q=1", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.6.1", b"Transfer-Encoding: , chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.6.1", b"Transfer-Encoding: chunked,", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding:", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: ch\tunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 6.1", b"Transfer-Encoding: chunked\xa0", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"Transfer-Encoding: chunked\0", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"Transfer-Encoding: \x0cchunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"Transfer-Encoding: \x7fchunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.1", b"Transfer-Encoding : chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.1", b"Transfer-Encoding\t: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.1", b"Transfer-Encoding\xff: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"Transfer-Encoding\n: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"X: y\nTransfer-Encoding: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"X: y\rTransfer-Encoding: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"X: y\r\n Transfer-Encoding: chunked", b"0\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n@@", Refused(400)),
    // Sound: names and codings have no case, white space around a value is none of it.
    ("RFC 9112 7", b"transfer-encoding: CHUNKED", b"25\r\n@@\r\n0\r\n\r\n", Open(&[200])),
    ("RFC 9110 5.5", b"Transfer-Encoding:\tchunked \t", b"25\r\n@@\r\n0\r\n\r\n", Open(&[200])),
    // Other fields frame nothing, however they look, and no field takes another away.
    ("RFC 9110 8.4", b"Content-Encoding: chunked\r\nContent-Length: 37", b"@@", Open(&[200])),
    ("RFC 9110 10.1.4", b"TE: chunked\r\nContent-Length: 37", b"@@", Open(&[200])),
    ("RFC 9110 5.1", b"Transfer_Encoding: chunked\r\nContent-Length: 37", b"@@", Open(&[200])),
    ("RFC 9110 5.1", b"X-Transfer-Encoding: chunked\r\nContent-Length: 37", b"@@", Open(&[200])),
    ("RFC 9110 7.6.1", b"Connection: Content-Length\r\nContent-Length: 37", b"@@", Open(&[200])),
    (
        "RFC 9110 7.6.1",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
        b"25\r\n@@\r\n0\r\n\r\n",
        Open(&[200]),
    ),
    ("RFC 9110 5.1", b"Content_Length: 37", b"@@", Open(&[200, 200])),
    ("RFC 9110 8.6", b"Content-Length: 0", b"@@", Open(&[200, 200])),
    // Lengths that are not one number.
    ("RFC 9112 6.3", b"Content-Length: 37\r\nContent-Length: 0", b"@@", Refused(400)),
    ("RFC 9112 6.3", b"Content-Length: 0\r\nContent-Length: 37", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 37, 37", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 0, 37", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 37,", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: +37", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: -37", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: -0", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 0x25", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 25h", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 3 7", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 3_7", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 37.0", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: 37;", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: \"37\"", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length:", b"@@", Refused(400)),
    ("RFC 9110 8.6", b"Content-Length: \xd9\xa3\xd9\xa7", b"@@", Refused(400)),
    ("RFC 9110 5.5", b"Content-Length: 37\0", b"@@", Refused(400)),
    ("RFC 9112 5.1", b"Content-Length : 37", b"@@", Refused(400)),
    ("RFC 9112 5.2", b"Content-Length: 3\r\n 7", b"@@", Refused(400)),
    ("RFC 9112 5.2", b"Content-Length:\r\n\t37", b"@@", Refused(400)),
    // One number. That it stands twice is allowed by §6.3, and how it is padded says nothing.
    ("RFC 9112 6.3", b"Content-Length: 37\r\nContent-Length: 37", b"@@", Open(&[200])),
    ("RFC 9110 8.6", b"Content-Length: 37", b"@@", Open(&[200])),
    ("RFC 9110 8.6", b"Content-Length: \t37 \t", b"@@", Open(&[200])),
    ("RFC 9110 8.6", b"Content-Length: 0000000000000000000000000037", b"@@", Open(&[200])),
    // Numbers that wrap around in 32 or 64 bits to 0 or 37: more than is read for a connection's sake.
    ("RFC 9110 8.6", b"Content-Length: 4294967296", b"@@", Closed(&[200])),
    ("RFC 9110 8.6", b"Content-Length: 4294967333", b"@@", Closed(&[200])),
    ("RFC 9110 8.6", b"Content-Length: 18446744073709551616", b"@@", Closed(&[200])),
    ("RFC 9110 8.6", b"Content-Length: 18446744073709551653", b"@@", Closed(&[200])),
    ("RFC 9110 8.6", b"Content-Length: 340282366920938463463374607431768211493", b"@@", Closed(&[200])),
    // A body that has not come holds back what hides in it.
    ("RFC 9112 6.3", b"Content-Length: 38", b"@@", Silent),
    ("RFC 9112 7.1", b"Transfer-Encoding: chunked", b"26\r\n@@", Silent),
    // Whoever waits for 100 may send the body or leave it: the connection ends, and neither can be taken for the other.
    ("RFC 9110 10.1.1", b"Expect: 100-continue\r\nContent-Length: 37", b"@@", Closed(&[200])),
    ("RFC 9110 10.1.1", b"Expect: 100-continue\r\nTransfer-Encoding: chunked", b"0\r\n\r\n@@", Closed(&[200])),
    ("RFC 9110 10.1.1", b"Expect: 100-Continue\r\nContent-Length: 37", b"@@", Closed(&[200])),
    ("RFC 9110 10.1.1", b"Expect: 100-continue", b"@@", Open(&[200, 200])),
    ("RFC 9110 10.1.1", b"Expect: x\r\nContent-Length: 37", b"@@", Open(&[200])),
];

pub(super) fn vectors() -> impl Iterator<Item = Vector> {
    GET.iter().map(|(rule, fields, body, verdict)| {
        let whole = [b"GET /a.txt HTTP/1.1\r\nHost: h\r\n", *fields, b"\r\n\r\n", body].concat();
        Vector::new(rule, &whole, *verdict)
    })
}
