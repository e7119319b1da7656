//! Bytes on the wire against the answers of the model.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
};

use flate2::bufread::{GzDecoder, ZlibDecoder};

use crate::{
    basics::find,
    model::{Answer, Body, File, latin1, reason},
};

/// Compares, and remembers which compressed bodies it has decoded before.
#[derive(Default)]
pub(crate) struct Judge {
    sound: HashSet<Vec<u8>>,
}

impl Judge {
    /// What is wrong with `sent`, which ought to be these answers and nothing else.
    pub(crate) fn compare(&mut self, answers: &[Answer], sent: &[u8]) -> Result<(), String> {
        let mut rest = sent;
        for (at, answer) in answers.iter().enumerate() {
            let len = self.answer(answer, rest).map_err(|why| format!("answer {at}: {why}"))?;
            rest = &rest[len..];
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("after {} answers: {}", answers.len(), start_of(rest))) }
    }

    /// Compares the first answer of `sent`. How many bytes it is.
    pub(crate) fn answer(&mut self, expected: &Answer, sent: &[u8]) -> Result<usize, String> {
        let head_len = find(sent, b"\r\n\r\n").ok_or_else(|| format!("no {}: {}", expected.status, start_of(sent)))?;
        let head = latin1(&sent[..head_len]);
        let body = &sent[head_len + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let list = if let Body::List { text, to_head } = &expected.body { Some((text, *to_head)) } else { None };
        let expected_line = format!("HTTP/1.1 {} {}", expected.status, reason(expected.status));
        let mut fields = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or_else(|| format!("no field: {line}"))?;
            if fields.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(format!("{name} twice"));
            }
        }
        if let Some((text, to_head)) = list {
            if fields.get("Connection") != expected.fields.get("Connection") {
                return Err(format!("Connection: {:?}", fields.get("Connection")));
            }
            return Ok(head_len + 4 + of_list(line, &fields, body, text, to_head)?);
        }
        let mut expected_fields = expected.fields.clone();
        let mut parts = Vec::new();
        if let Body::Parts(file, ranges) = &expected.body {
            let boundary = boundary_of(&fields, file)?;
            parts = multipart(file, ranges, &boundary);
            expected_fields.insert("Content-Type".into(), format!("multipart/byteranges; boundary={boundary}"));
            expected_fields.insert("Content-Length".into(), parts.len().to_string());
        }
        if line != expected_line || fields != expected_fields {
            return Err(difference(&expected_line, &expected_fields, line, &fields));
        }
        let len = match &expected.body {
            Body::Bytes(bytes) => starts_with(body, bytes)?,
            Body::Parts(..) => starts_with(body, &parts)?,
            Body::Zlib(deflate, content) => self.framed(body, (2, deflate, 4), content, false)?,
            Body::Gzip(deflate, content) => self.framed(body, (10, deflate, 8), content, true)?,
            Body::List { .. } => return Err("a list".into()),
        };
        Ok(head_len + 4 + len)
    }

    /// The raw deflate stream lies between a header and a trailer of these lengths, and decodes to the content.
    fn framed(
        &mut self,
        body: &[u8],
        frame: (usize, &[u8], usize),
        content: &[u8],
        gzip: bool,
    ) -> Result<usize, String> {
        let (header, deflate, trailer) = frame;
        let len = header + deflate.len() + trailer;
        let body = body.get(..len).ok_or("a body that is too short")?;
        starts_with(&body[header..], deflate)?;
        if self.sound.contains(body) {
            return Ok(len);
        }
        let mut decoded = Vec::new();
        let read = if gzip {
            GzDecoder::new(body).read_to_end(&mut decoded)
        } else {
            ZlibDecoder::new(body).read_to_end(&mut decoded)
        };
        read.map_err(|why| format!("a body that does not decode: {why}"))?;
        if decoded != content {
            return Err("a body that decodes to something else".into());
        }
        self.sound.insert(body.to_vec());
        Ok(len)
    }
}

/// The bytes of the body of a list, which reads as `text` where it is all of it.
fn of_list(
    line: &str,
    fields: &BTreeMap<String, String>,
    body: &[u8],
    text: &str,
    to_head: bool,
) -> Result<usize, String> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if !["200", "206", "304", "412", "416"].contains(&status) || !line.starts_with("HTTP/1.1 ") {
        return Err(format!("{line} for a list"));
    }
    if status == "304" {
        return if field("Content-Length").is_none() { Ok(0) } else { Err(format!("304 with a length: {fields:?}")) };
    }
    let length = field("Content-Length").and_then(|length| length.parse().ok()).ok_or("no length")?;
    if to_head {
        return Ok(0);
    }
    let body = body.get(..length).ok_or("a body that is too short")?;
    if status == "200" {
        let mut read = Vec::new();
        let decoded = match field("Content-Encoding") {
            Some("deflate") => ZlibDecoder::new(body).read_to_end(&mut read),
            Some("gzip") => GzDecoder::new(body).read_to_end(&mut read),
            _ => {
                read.extend_from_slice(body);
                Ok(body.len())
            }
        };
        decoded.map_err(|why| format!("a list that does not decode: {why}"))?;
        if read != text.as_bytes() {
            return Err(format!("expected the list {text:?}, got {}", start_of(&read)));
        }
    }
    Ok(length)
}

/// The lines of two heads that are not in both.
fn difference(
    expected_line: &str,
    expected: &BTreeMap<String, String>,
    line: &str,
    fields: &BTreeMap<String, String>,
) -> String {
    let mut difference = format!("expected {expected_line}, got {line}");
    for (sign, these, others) in [("expected", expected, fields), ("got", fields, expected)] {
        for (name, value) in these.iter().filter(|(name, value)| others.get(*name) != Some(*value)) {
            difference.push_str(&format!("\n{sign} {name}: {value}"));
        }
    }
    difference
}

fn starts_with(body: &[u8], expected: &[u8]) -> Result<usize, String> {
    if body.starts_with(expected) {
        return Ok(expected.len());
    }
    Err(format!("expected the body {}, got {}", start_of(expected), start_of(body)))
}

/// RFC 2046 §5.1.1: up to seventy characters that need no quotes here, and that the content does not hold.
fn boundary_of(fields: &BTreeMap<String, String>, file: &File) -> Result<String, String> {
    let media = fields.get("Content-Type").ok_or("no Content-Type")?;
    let boundary = media.strip_prefix("multipart/byteranges; boundary=").ok_or_else(|| format!("{media} of ranges"))?;
    let sound = (1..=70).contains(&boundary.len()) && boundary.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !sound || find(&file.content, boundary.as_bytes()).is_some() {
        return Err(format!("the boundary {boundary}"));
    }
    Ok(boundary.to_owned())
}

/// RFC 9110 §14.6.
fn multipart(file: &File, ranges: &[(usize, usize)], boundary: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (start, end) in ranges {
        let break_line = if body.is_empty() { "" } else { "\r\n" };
        let (media, last, len) = (file.content_type, end - 1, file.content.len());
        let head =
            format!("--{boundary}\r\nContent-Type: {media}\r\nContent-Range: bytes {start}-{last}/{len}\r\n\r\n");
        body.extend_from_slice(format!("{break_line}{head}").as_bytes());
        body.extend_from_slice(&file.content[*start..*end]);
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

fn start_of(bytes: &[u8]) -> String {
    format!("{} ({} bytes)", bytes[..bytes.len().min(300)].escape_ascii(), bytes.len())
}
