//! The table `[quotes]` of the file.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{
    feed::quotes::text::Charset,
    limits::{LIST_AGE_CAP, LIST_AGE_DEFAULT, MAX_AGE_CAP},
    store::quotes::Terms,
};

/// What was written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct QuotesArgs {
    prefix: Option<String>,
    #[serde(deserialize_with = "super::file::from_text")]
    charset: Option<Charset>,
    maxage: Option<u32>,
    maxage_cap: Option<u32>,
    socket: Option<PathBuf>,
    snapshot: Option<PathBuf>,
    feeders: Vec<String>,
}

/// The keys of the table.
pub(super) const KEYS: [&str; 7] = ["prefix", "charset", "maxage", "maxage_cap", "socket", "snapshot", "feeders"];

/// How quotes are answered, and where they come from besides tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotes {
    /// What the names in scripts begin with.
    pub prefix: String,
    /// The charset of scripts.
    pub charset: Charset,
    /// In seconds, like the following.
    pub max_age: u32,
    /// The most that a request may ask for.
    pub max_age_cap: u32,
    /// Where feeders connect.
    pub socket: Option<PathBuf>,
    /// Where what they have sent is kept.
    pub snapshot: Option<PathBuf>,
    /// Users that may feed besides root and the server's own.
    pub feeders: Vec<String>,
}

impl Quotes {
    /// For the store.
    pub fn terms(&self) -> Terms {
        Terms::new(&self.prefix, self.charset.name(), self.max_age, self.max_age_cap)
    }
}

impl QuotesArgs {
    pub(super) fn check(self) -> Result<Quotes, String> {
        let prefix = self.prefix.unwrap_or_else(|| "hq_str_".to_owned());
        if !is_identifier(&prefix) {
            return Err(format!(
                "quotes.prefix is {prefix:?}, it must be an identifier of JavaScript: 1 to {MAX_PREFIX} letters, digits, '_' and '$', \
                 no digit first, no reserved word"
            ));
        }
        let max_age_cap = self.maxage_cap.unwrap_or(LIST_AGE_CAP);
        if max_age_cap > MAX_AGE_CAP {
            return Err(format!("quotes.maxage_cap is {max_age_cap}, it must be at most {MAX_AGE_CAP} seconds"));
        }
        let max_age = self.maxage.unwrap_or(LIST_AGE_DEFAULT.min(max_age_cap));
        if max_age > max_age_cap {
            return Err(format!("quotes.maxage is {max_age}, it must be at most quotes.maxage_cap, {max_age_cap}"));
        }
        for (key, path) in [("socket", &self.socket), ("snapshot", &self.snapshot)] {
            if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                return Err(format!("quotes.{key} is empty: name a file, or leave it out"));
            }
        }
        if self.socket.is_none() {
            let needless = [("snapshot", self.snapshot.is_some()), ("feeders", !self.feeders.is_empty())];
            if let Some((key, _)) = needless.iter().find(|(_, is_set)| *is_set) {
                return Err(format!("quotes.{key} is set without quotes.socket: set that, or leave this out"));
            }
        }
        if self.socket.is_some() && self.socket == self.snapshot {
            return Err("quotes.socket and quotes.snapshot are the same file: name two".to_owned());
        }
        Ok(Quotes {
            prefix,
            charset: self.charset.unwrap_or_default(),
            max_age,
            max_age_cap,
            socket: self.socket,
            snapshot: self.snapshot,
            feeders: self.feeders,
        })
    }
}

const MAX_PREFIX: usize = 64;

fn is_identifier(prefix: &str) -> bool {
    const RESERVED: &str = " await break case catch class const continue debugger default delete do else enum export extends false \
        finally for function if implements import in instanceof interface let new null package private protected public return \
        static super switch this throw true try typeof var void while with yield ";
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    (1..=MAX_PREFIX).contains(&prefix.len())
        && prefix.bytes().all(is_part)
        && !prefix.starts_with(|c: char| c.is_ascii_digit())
        && !RESERVED.contains(&format!(" {prefix} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for good in ["hq_str_", "$", "_1", "q", "variable", &"a".repeat(64)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "1a", "a-b", "a b", "绵", "var", "in", "a;", &"a".repeat(65)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
