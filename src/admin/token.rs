//! What a request must know to be answered by the admin listener: a word, as `Authorization: Bearer WORD`, or as the password of
//! `Basic` with any name, which is what browsers can ask for.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use subtle::ConstantTimeEq;

use crate::limits::{MAX_TOKEN, MIN_TOKEN};

/// The word.
pub struct Token(Vec<u8>);

impl Token {
    /// From a file: its only line. Whether others than the file's user and group can read it is said in the log.
    ///
    /// # Errors
    /// In words, when the file cannot be read or holds anything else.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refused = |reason: String| format!("--admin-token-file {}: {reason}", path.display());
        let unreadable = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::NotFound => "; make it, for instance with: openssl rand -hex 32",
                io::ErrorKind::PermissionDenied => "; let the group of this server's user read it (chgrp, chmod 640)",
                _ => "",
            };
            refused(format!("{error}{remedy}"))
        };
        // A pipe in its place must not block the start.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
        let meta = file.metadata().map_err(unreadable)?;
        if !meta.is_file() {
            return Err(refused("it is no regular file; name one".to_owned()));
        }
        let mut text = Vec::new();
        file.take(2 * MAX_TOKEN as u64).read_to_end(&mut text).map_err(unreadable)?;
        let token = Self::new(&text).ok_or_else(|| {
            refused(format!(
                "it must hold one line of {MIN_TOKEN} to {MAX_TOKEN} visible ASCII characters, such as openssl rand -hex 32 makes"
            ))
        })?;
        if meta.permissions().mode() & 0o004 != 0 {
            tracing::warn!("{}: every user of this machine can read the token; chmod o-r {0}", path.display());
        }
        Ok(token)
    }

    fn new(text: &[u8]) -> Option<Self> {
        let line = text.strip_suffix(b"\n").unwrap_or(text);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_word = (MIN_TOKEN..=MAX_TOKEN).contains(&line.len()) && line.iter().all(u8::is_ascii_graphic);
        is_word.then(|| Self(line.to_vec()))
    }

    /// Whether a request with this head knows it. The head is well formed.
    pub fn admits(&self, head: &[u8]) -> bool {
        let mut lines = head.split(|byte| *byte == b'\n').filter_map(|line| value(line, "authorization"));
        let (Some(credentials), None) = (lines.next(), lines.next()) else { return false };
        let Some((scheme, rest)) = credentials.split_once(' ') else { return false };
        let rest = rest.trim_start();
        let word = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => rest.as_bytes().to_vec(),
            "basic" => match BASE64_STANDARD.decode(rest) {
                Ok(pair) => match pair.iter().position(|byte| *byte == b':') {
                    Some(colon) => pair[colon + 1..].to_vec(),
                    None => return false,
                },
                Err(_) => return false,
            },
            _ => return false,
        };
        // As long for any word of this length.
        self.0.ct_eq(&word).into()
    }
}

fn value<'l>(line: &'l [u8], name: &str) -> Option<&'l str> {
    let (first, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    first.eq_ignore_ascii_case(name).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: &str = "0123456789abcdef";

    #[test]
    fn words() {
        for good in ["0123456789abcdef", "0123456789abcdef\n", "0123456789abcdef\r\n", &"x".repeat(256)] {
            assert!(Token::new(good.as_bytes()).is_some(), "{good:?}");
        }
        for bad in [
            "",
            "\n",
            "0123456789abcde",
            "0123456789abcdef\n\n",
            "0123456789 abcdef",
            "0123456789abcdef\nx",
            &"x".repeat(257),
        ] {
            assert!(Token::new(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn who_is_admitted() {
        let token = Token::new(WORD.as_bytes()).unwrap();
        let admits = |fields: &str| token.admits(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n").as_bytes());
        let basic = |pair: String| format!("Authorization: Basic {}", BASE64_STANDARD.encode(pair));
        assert!(admits(&format!("Authorization: Bearer {WORD}")) && admits(&format!("authorization:bearer  {WORD} ")));
        assert!(admits(&basic(format!("any:{WORD}"))) && admits(&basic(format!(":{WORD}"))));
        for other in [
            String::new(),
            "Authorization: Bearer".to_owned(),
            format!("Authorization: {WORD}"),
            format!("Authorization: Bearer {WORD}0"),
            format!("Authorization: Bearer {}", &WORD[1..]),
            format!("Authorization: Digest {WORD}"),
            format!("X-Authorization: Bearer {WORD}"),
            format!("Authorization: Bearer {WORD}\r\nAuthorization: Bearer {WORD}"),
            basic(WORD.to_owned()),
            basic(format!("a:b:{WORD}")),
            "Authorization: Basic !".to_owned(),
        ] {
            assert!(!admits(&other), "{other}");
        }
    }
}
