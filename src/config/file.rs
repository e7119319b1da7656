//! The file of settings: TOML, whose keys are the flags of `serve`, and what is wrong with one, with the line.

use std::{path::Path, str::FromStr};

use serde::Deserialize;

use super::{ServeArgs, quotes};

const KEYS: [&str; 21] = [
    "data",
    "listen",
    "listen_proxy",
    "trusted_proxies",
    "admin",
    "admin_token_file",
    "admin_names",
    "workers",
    "keep_alive_timeout",
    "header_timeout",
    "send_timeout",
    "grace",
    "user",
    "max_connections",
    "max_connections_per_ip",
    "evict_idle",
    "defer_accept",
    "log_refused",
    "memory_limit",
    "io",
    "quotes",
];

pub(super) fn read(path: &Path) -> Result<ServeArgs, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("the configuration {} cannot be read: {error}; name another with --config", path.display())
    })?;
    parse_file(&text).map_err(|error| of_file(path, &error))
}

pub(super) fn of_file(path: &Path, error: &str) -> String {
    format!("{}: {error}", path.display())
}

pub(super) fn parse_file(text: &str) -> Result<ServeArgs, String> {
    let at = |span: Option<std::ops::Range<usize>>| {
        let before = &text.as_bytes()[..span.map_or(0, |span| span.start)];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.len() - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1) + 1;
        format!("line {line}, column {column}")
    };
    let in_words = |error: &toml::de::Error| format!("{}: {}", at(error.span()), error.message().replace('\n', " "));
    let table: toml::Table = text.parse().map_err(|error| in_words(&error))?;
    check_keys(text, 0, &table, &KEYS)?;
    if let Some(quotes) = table.get("quotes") {
        let line = text.lines().position(|line| line.trim_start().trim_start_matches('[').starts_with("quotes"));
        let line = line.map_or(1, |line| line + 1);
        let wrong = || format!("line {line}: quotes is of type {}, it must be a table: [quotes]", quotes.type_str());
        let quotes = quotes.as_table().ok_or_else(wrong)?;
        let heading = text.lines().position(|line| line.trim_start().starts_with("[quotes]"));
        check_keys(text, heading.unwrap_or(0), quotes, &quotes::KEYS)?;
    }
    toml::from_str(text).map_err(|error| in_words(&error))
}

/// Finds a key that is not known. `after`: the line in front of the table.
fn check_keys(text: &str, after: usize, table: &toml::Table, known: &[&str]) -> Result<(), String> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let nearest = known.iter().max_by(|a, b| {
        let [a, b] = [a, b].map(|known| strsim::jaro_winkler(&key.replace('-', "_"), known));
        a.total_cmp(&b)
    });
    let is_there = |line: &str| line.trim_start().trim_start_matches(['[', '"']).starts_with(key.as_str());
    let line = text.lines().skip(after).position(is_there);
    let place = line.map_or(String::new(), |line| format!("line {}: ", after + line + 1));
    Err(format!("{place}there is no key {key:?}; the nearest is {:?}", nearest.unwrap_or(&"data")))
}

pub(super) fn one_or_more<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err = String>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum OneOrMore {
        One(String),
        More(Vec<String>),
    }
    let texts = match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(text) => vec![text],
        OneOrMore::More(texts) => texts,
    };
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

/// A string, or a number that stands for one.
pub(super) fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: FromStr<Err = String>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string")]
    enum Text {
        Text(String),
        Number(u64),
    }
    let text = match Text::deserialize(deserializer)? {
        Text::Text(text) => text,
        Text::Number(number) => number.to_string(),
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}
