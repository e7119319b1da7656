//! Tables of cases: a name, the bytes of a request, and what the answer must be. [`check`] sends each on a
//! connection of its own, looks at the answer and then at what became of the connection.

use std::fmt::Write;

use crate::conn::{Conn, Response};
use crate::harness::Server;

/// `GET target`, with the `Host` that 1.1 wants.
pub(crate) fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    request("GET", target, &["Host: h"], "")
}

/// `GET target` with further fields, each a `Name: value`.
pub(crate) fn get_with(target: impl AsRef<[u8]>, fields: &[&str]) -> Vec<u8> {
    with_host("GET", target, fields, "")
}

/// Any method, with `Host`, further fields and bytes after the head.
pub(crate) fn with_host(method: &str, target: impl AsRef<[u8]>, fields: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    request(method, target, &[&["Host: h"], fields].concat(), body)
}

/// Any 1.1 request with exactly these fields.
pub(crate) fn request(
    method: &str,
    target: impl AsRef<[u8]>,
    fields: &[impl AsRef<[u8]>],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let mut bytes = [method.as_bytes(), b" ", target.as_ref(), b" HTTP/1.1\r\n"].concat();
    for field in fields {
        bytes.extend_from_slice(field.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_ref());
    bytes
}

/// What an answer must be. Built from [`status`].
#[derive(Clone)]
pub(crate) struct Expect {
    statuses: Vec<u16>,
    fields: Vec<(&'static str, Option<String>)>,
    body: Option<Vec<u8>>,
    closes: bool,
}

/// This status; by default the connection then closes after those errors that make it (wire section 7).
pub(crate) fn status(code: u16) -> Expect {
    Expect {
        statuses: vec![code],
        fields: Vec::new(),
        body: None,
        closes: matches!(code, 400 | 408 | 414 | 431 | 501 | 503 | 505),
    }
}

impl Expect {
    /// Another status does as well.
    pub(crate) fn or(mut self, code: u16) -> Expect {
        self.statuses.push(code);
        self
    }

    /// This field has exactly this value.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Expect {
        self.fields.push((name, Some(value.into())));
        self
    }

    pub(crate) fn without(mut self, name: &'static str) -> Expect {
        self.fields.push((name, None));
        self
    }

    /// The body, as it is on the wire.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Expect {
        self.body = Some(body.into());
        self
    }

    /// The answer is the connection's last.
    pub(crate) fn closes(mut self) -> Expect {
        self.closes = true;
        self
    }

    /// What the answer lacks of this.
    fn faults(&self, response: &Response) -> Result<(), String> {
        if !self.statuses.contains(&response.status) {
            return Err(format!("expected {:?}", self.statuses));
        }
        for (name, value) in &self.fields {
            let got = response.get(name);
            if got != value.as_deref() {
                return Err(format!("expected {name} {value:?}, got {got:?}"));
            }
        }
        match &self.body {
            Some(body) if *body != response.body => {
                Err(format!("expected the body {}, got {}", show(body), show(&response.body)))
            }
            _ => Ok(()),
        }
    }
}

/// One line of a table.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) request: Vec<u8>,
    pub(crate) expect: Expect,
}

pub(crate) fn case(name: impl Into<String>, request: impl Into<Vec<u8>>, expect: Expect) -> Case {
    Case { name: name.into(), request: request.into(), expect }
}

impl Case {
    pub(crate) fn to_head(&self) -> bool {
        self.request.trim_ascii_start().starts_with(b"HEAD ")
    }

    /// Reads the answer and looks at it and at the connection after it.
    pub(crate) fn judge(&self, conn: &mut Conn) -> Result<(), String> {
        let response = self.judge_answer(conn)?;
        let end = if self.expect.closes { conn.closed() } else { conn.open() };
        end.map_err(|why| format!("{why}\n{response}"))
    }

    /// Reads the answer and looks at it alone.
    pub(crate) fn judge_answer(&self, conn: &mut Conn) -> Result<Response, String> {
        let response = conn.try_recv(self.to_head())?;
        self.expect
            .faults(&response)
            .and_then(|()| self.persistence_fault(&response))
            .map_err(|why| format!("{why}\n{response}"))?;
        Ok(response)
    }

    /// To close is said and to persist is not, in 1.1; 1.0 is answered in kind.
    fn persistence_fault(&self, response: &Response) -> Result<(), String> {
        let says = response.get("connection").map(str::to_ascii_lowercase);
        match (self.expect.closes, says.as_deref()) {
            _ if self.is_1_0() => Ok(()),
            (true, Some("close")) | (false, None) => Ok(()),
            (closes, says) => Err(format!("expected to close: {closes}, Connection: {says:?}")),
        }
    }

    fn is_1_0(&self) -> bool {
        let line = self.request.split(|b| *b == b'\r').next();
        line.is_some_and(|line| line.ends_with(b" HTTP/1.0"))
    }
}

/// Runs a table and reports all that failed of it.
#[track_caller]
pub(crate) fn check(server: &Server, cases: impl IntoIterator<Item = Case>) {
    let mut report = String::new();
    for case in cases {
        let mut conn = server.connect();
        conn.send(&case.request);
        if let Err(why) = case.judge(&mut conn) {
            let (name, request) = (&case.name, show(&case.request));
            write!(report, "\n\n{name}: {request}\n{why}").unwrap();
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Bytes as a failure message shows them.
pub(crate) fn show(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(300)];
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    format!("\"{}\"{more} ({} bytes)", shown.escape_ascii(), bytes.len())
}
