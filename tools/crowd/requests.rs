//! What honest clients ask for: one request, or those of a file in turn.

use std::{fs, io, path::Path, sync::Arc};

use crate::args::Common;

/// Requests as they are sent, shared by all threads.
#[derive(Debug)]
pub struct Requests {
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// A thread's place in them.
#[derive(Clone, Debug)]
pub struct Turn {
    requests: Arc<Requests>,
    next: usize,
}

impl Requests {
    /// The one request of the command line.
    pub fn one(common: &Common) -> Self {
        let bytes = common.request();
        Self { ends: vec![bytes.len()], bytes }
    }

    /// A request for each line of a file.
    pub fn load(common: &Common, path: &Path) -> io::Result<Self> {
        let fault = |what: String| io::Error::other(format!("{}{what}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| fault(format!(": {error}")))?;
        Self::parse(common, &text).map_err(fault)
    }

    /// Lines are `PATH[\tHeader: value]…`. Empty ones and those that begin with `#` are left out. The text of the error goes
    /// behind the name of the file.
    fn parse(common: &Common, text: &str) -> Result<Self, String> {
        let mut found = Self { bytes: Vec::new(), ends: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut parts = line.split('\t');
            let path = parts.next().unwrap_or_default();
            let fields: Vec<&str> = parts.collect();
            if !path.starts_with('/') || path.contains(' ') {
                return Err(format!(":{}: a line begins with a path, which begins with a slash", number + 1));
            }
            if let Some(field) = fields.iter().find(|field| name(field).is_none()) {
                return Err(format!(":{}: \"{field}\" is no header: a name, a colon and a value", number + 1));
            }
            found.bytes.extend_from_slice(common.head_with("GET", path, &fields).as_bytes());
            found.bytes.extend_from_slice(b"\r\n");
            found.ends.push(found.bytes.len());
        }
        if found.ends.is_empty() { Err(" holds no request".into()) } else { Ok(found) }
    }

    /// The place where thread `index` of so many begins: each at its own share of the requests.
    pub fn turn(self: Arc<Self>, index: u32, threads: u32) -> Turn {
        let next = (self.ends.len() as u64 * u64::from(index) / u64::from(threads.max(1))) as usize;
        Turn { requests: self, next }
    }
}

impl Turn {
    /// The next request; the first comes after the last.
    pub fn take(&mut self) -> &[u8] {
        let Requests { bytes, ends } = &*self.requests;
        let at = self.next;
        self.next = (at + 1) % ends.len();
        let begin = if at == 0 { 0 } else { ends[at - 1] };
        &bytes[begin..ends[at]]
    }
}

/// The name of a field line, if it is one.
pub fn name(field: &str) -> Option<&str> {
    field.split_once(':').map(|(name, _)| name).filter(|name| !name.is_empty() && !name.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Requests, String> {
        let args: crate::args::Args =
            clap::Parser::parse_from(["crowd", "poll", "--header", "Accept: */*", "--header", "Accept-Encoding: gzip"]);
        Requests::parse(&args.common, text)
    }

    #[test]
    fn a_file_is_asked_for_in_its_order_by_each_thread_from_its_own_line_on() {
        let text = "# what for\n/a\n\n/b\tIf-None-Match: \"x\"\taccept-encoding: br\r\n/c\n/d\n";
        let requests = Arc::new(parse(text).unwrap());
        let paths = |index, count| -> Vec<String> {
            let mut turn = requests.clone().turn(index, 2);
            let lines = std::iter::repeat_with(|| String::from_utf8_lossy(turn.take()).into_owned());
            lines.take(count).map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(paths(0, 6), ["/a", "/b", "/c", "/d", "/a", "/b"]);
        assert_eq!(paths(1, 3), ["/c", "/d", "/a"]);
        let mut turn = requests.turn(0, 1);
        let host = "Host: 127.0.0.1:8080\r\n";
        assert_eq!(
            turn.take(),
            format!("GET /a HTTP/1.1\r\n{host}Accept: */*\r\nAccept-Encoding: gzip\r\n\r\n").as_bytes()
        );
        assert_eq!(
            turn.take(),
            format!("GET /b HTTP/1.1\r\n{host}Accept: */*\r\nIf-None-Match: \"x\"\r\naccept-encoding: br\r\n\r\n")
                .as_bytes(),
            "a field of the line stands in place of the same field for all"
        );
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_its_line() {
        assert_eq!(parse("\n# nothing\n").unwrap_err(), " holds no request");
        assert!(parse("/a\nb\n").unwrap_err().starts_with(":2: a line begins with a path"));
        assert!(parse("/a b\n").unwrap_err().starts_with(":1: "));
        assert!(parse("/a\n/b\tX\n").unwrap_err().starts_with(":2: \"X\" is no header"));
    }
}
