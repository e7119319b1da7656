//! Media types, from the extension. Pure.

/// The value of `Content-Type` for a file of this name. Text carries its charset.
pub fn content_type(name: &str) -> String {
    let extension =
        name.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
    let extension = extension.to_ascii_lowercase();
    let media = match extension.as_str() {
        // RFC 9239: the one name for scripts.
        "js" | "mjs" | "cjs" => "text/javascript",
        // A web app manifest and its like; the guesses differ.
        "webmanifest" => "application/manifest+json",
        // RFC 8216: the playlists of live streams.
        "m3u8" => "application/vnd.apple.mpegurl",
        "rss" => "application/rss+xml",
        "atom" => "application/atom+xml",
        _ => mime_guess::from_ext(&extension).first_raw().unwrap_or("application/octet-stream"),
    };
    if media.starts_with("text/") { format!("{media}; charset=utf-8") } else { media.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::content_type;

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
            assert_eq!(content_type(name), expected, "{name}");
        }
    }
}
