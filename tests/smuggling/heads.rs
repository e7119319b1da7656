//! Heads that two hops may cut into requests differently: request lines, versions, hosts, white space, and connections that
//! end for one hop only.

use super::{
    Vector,
    Verdict::{self, Closed, Open, Refused},
};

/// Rule, bytes, verdict.
const HEADS: &[(&str, &[u8], Verdict)] = &[
    // The request line. RFC 9112 §3: three parts and single spaces; leniency is what this is about.
    ("RFC 9112 3", b"GET  /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3", b"GET /a.txt  HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3", b"GET /a.txt HTTP/1.1 \r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3", b"GET\t/a.txt\tHTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3", b"GET /a.txt\x0bHTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3", b"GET /a.txt HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3", b"GET /a.txt /hidden.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt?a b HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt\0 HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt\xe3\x80\x80 HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt#f HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt%20HTTP/1.1%0d%0aX:%20y HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2.4", b"GET * HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2.3", b"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n@@", Open(&[405, 200])),
    ("RFC 9110 9.1", b"get /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(501)),
    ("RFC 9110 9.1", b"SMUGGLE /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(501)),
    ("RFC 9110 9.1", b"G@T /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9110 9.1", b"GET\0 /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    // Methods that another hop may think have no body, or no answer with one.
    ("RFC 9110 9.3.1", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n@@", Open(&[200])),
    ("RFC 9110 9.3.2", b"HEAD /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n@@", Open(&[200])),
    ("RFC 9110 9.3.2", b"HEAD /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n@@", Refused(400)),
    ("RFC 9110 9.3.7", b"OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n@@", Open(&[204])),
    ("RFC 9110 9.3.8", b"TRACE /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n@@", Open(&[405])),
    ("RFC 9110 9.3.5", b"DELETE /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n@@", Open(&[405])),
    ("RFC 9110 9.3.3", b"POST /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Open(&[405, 200])),
    // What stands before a request.
    ("RFC 9112 2.2", b"\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n", Open(&[200])),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nX\r\n@@", Open(&[200, 200])),
    ("RFC 9112 2.2", b"\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"\rGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b" \r\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b" GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"\0GET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"\xef\xbb\xbfGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"X\r\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"0\r\n\r\nGET /a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("PROXY v1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n@@", Refused(400)),
    ("PROXY v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0@@", Refused(400)),
    // Versions. There was no end of a head in 0.9, and no persistence.
    ("RFC 9112 2.3", b"GET /hidden.txt\r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /hidden.txt \r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /a.txt HTTP/0.9\r\nHost: h\r\n\r\n@@", Refused(505)),
    ("RFC 9112 2.3", b"GET /a.txt HTTP/2.0\r\nHost: h\r\n\r\n@@", Refused(505)),
    ("RFC 9112 2.3", b"GET /a.txt HTTP/1.10\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /a.txt HTTP/11.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /a.txt HTTP/1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /a.txt HTTP/1,1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /a.txt http/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.3", b"GET /a.txt ICY/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n@@", Refused(505)),
    // Persistence: what follows a last request is not looked at.
    ("RFC 9112 9.3", b"GET /a.txt HTTP/1.0\r\n\r\n@@", Closed(&[200])),
    ("RFC 9112 C.2.2", b"GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 37\r\n\r\n@@", Open(&[200])),
    ("RFC 9112 6.1", b"GET /a.txt HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@@", Refused(400)),
    (
        "RFC 9112 6.1",
        b"GET /a.txt HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@@",
        Refused(400),
    ),
    ("RFC 9112 9.6", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n@@", Closed(&[200])),
    ("RFC 9112 9.6", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, CLOSE\r\n\r\n@@", Closed(&[200])),
    (
        "RFC 9110 7.6.1",
        b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: x\r\nConnection:\t,close ,\r\n\r\n@@",
        Closed(&[200]),
    ),
    ("RFC 9110 7.6.1", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close-not\r\n\r\n@@", Open(&[200, 200])),
    ("RFC 9110 7.6.1", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nProxy-Connection: close\r\n\r\n@@", Open(&[200, 200])),
    ("RFC 9112 9.6", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 37\r\n\r\n@@", Closed(&[200])),
    // Protocols that this server does not change to: what follows is read as HTTP/1.1, or not at all.
    (
        "RFC 9110 7.8",
        b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\
          \r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n@@",
        Closed(&[200, 505]),
    ),
    (
        "RFC 9110 7.8",
        b"GET /a.txt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n\r\n@@",
        Open(&[200, 200]),
    ),
    // Hosts: one, sound, and ignored where the target names another.
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nhost: other\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h, other\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h other\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: user@h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h/other\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h:65536\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.1\r\nHost: h:80:80\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2", b"GET /a.txt HTTP/1.0\r\nHost: h\r\nHost: other\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"GET /a.txt HTTP/1.1\r\nHost:\r\n h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 3.2.2", b"GET http://other/a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Open(&[200, 200])),
    ("RFC 9112 3.2.2", b"GET http://other/a.txt HTTP/1.1\r\n\r\n@@", Refused(400)),
    ("RFC 9110 4.2.4", b"GET http://h@other/a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9110 4.2.1", b"GET http:///a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9110 4.2", b"GET ftp://h/a.txt HTTP/1.1\r\nHost: h\r\n\r\n@@", Refused(400)),
    // Field lines.
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\nHost: h\n\n@@", Refused(400)),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\rHost: h\r\r@@", Refused(400)),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\n\n@@", Refused(400)),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: y\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: y\r\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: \ry\r\n\r\n@@", Refused(400)),
    ("RFC 9112 2.2", b"GET /a.txt HTTP/1.1\r\n X: y\r\nHost: h\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: y\r\n\tz\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5.2", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: y\r\n \r\n\r\n@@", Refused(400)),
    ("RFC 9112 5", b"GET /a.txt HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX\r\n\r\n@@", Refused(400)),
    ("RFC 9112 5", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX y: z\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.1", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX\0: y\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n@@", Refused(400)),
    ("RFC 9110 5.5", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX: \x1b\r\n\r\n@@", Refused(400)),
    // What stands for another target, method or body at other hops.
    ("none", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX-Original-URL: /hidden.txt\r\nX-Rewrite-URL: /hidden.txt\r\n\r\n", Open(&[200])),
    ("none", b"GET /a.txt HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", Open(&[200])),
];

pub(super) fn vectors() -> impl Iterator<Item = Vector> {
    // What frames stands behind so much that a hop with other bounds may not see it.
    let hundred = "X: y\r\n".repeat(100);
    let long = "x".repeat(16 * 1024);
    let buried = [hundred, format!("X: {long}\r\n")].map(|before| {
        let head = format!("GET /a.txt HTTP/1.1\r\nHost: h\r\n{before}Content-Length: 37\r\n\r\n@@");
        Vector::new("RFC 6585 5", head.as_bytes(), Refused(431))
    });
    let target = format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n@@");
    let target = Vector::new("RFC 9110 15.5.15", target.as_bytes(), Refused(414));
    HEADS.iter().map(|(rule, bytes, verdict)| Vector::new(rule, bytes, *verdict)).chain(buried).chain([target])
}
