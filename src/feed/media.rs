//! Media types, from the extension.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Media types by extension, each held once for all its files.
#[derive(Default)]
pub struct Types(Mutex<HashMap<String, Arc<str>>>);

impl Types {
    /// The value of `Content-Type` for a file of this name.
    pub fn of(&self, name: &str) -> Arc<str> {
        let extension = extension(name);
        let mut types = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        types.entry(extension).or_insert_with_key(|extension| content_type(extension).into()).clone()
    }
}

fn extension(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase()
}

/// The type of an extension in lower case. Text carries its charset.
fn content_type(extension: &str) -> String {
    let media = match extension {
        // RFC 9239: the one name for scripts.
        "js" | "mjs" | "cjs" => "text/javascript",
        // A web app manifest and its like; the guesses differ.
        "webmanifest" => "application/manifest+json",
        // RFC 8216: the playlists of live streams.
        "m3u8" => "application/vnd.apple.mpegurl",
        "rss" => "application/rss+xml",
        "atom" => "application/atom+xml",
        _ => mime_guess::from_ext(extension).first_raw().unwrap_or("application/octet-stream"),
    };
    if media.starts_with("text/") { format!("{media}; charset=utf-8") } else { media.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::Types;

    #[test]
    fn the_types_of_a_feed() {
        for (name, expected) in [
            ("scores.js", "text/javascript; charset=utf-8"),
            ("d/A.HTML", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("a.txt", "text/plain; charset=utf-8"),
            ("a.json", "application/json"),
            ("a.png", "image/png"),
            ("a.svg", "image/svg+xml"),
            ("a.xml", "text/xml; charset=utf-8"),
            ("a.tar.gz", "application/gzip"),
            ("a.m3u8", "application/vnd.apple.mpegurl"),
            ("a.wasm", "application/wasm"),
            ("none", "application/octet-stream"),
            ("d.js/none", "application/octet-stream"),
        ] {
            assert_eq!(&*Types::default().of(name), expected, "{name}");
        }
    }
}
