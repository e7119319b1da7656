//! Request targets (wire sections 1 and 2).

use super::{File, Site, head::is_host, number};

/// What a path stands for.
pub(super) enum Found<'s> {
    File(&'s File),
    /// An index stands one level below this path.
    Directory(String),
    Nothing,
}

/// The path, not yet decoded, and the query behind the first `?`. None: no target for a path.
pub(super) fn split(target: &str) -> Option<(String, Option<String>)> {
    let from_path = if target.starts_with('/') { target } else { behind_authority(target)? };
    let (path, query) = match from_path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (from_path, None),
    };
    Some((if path.is_empty() { "/".to_owned() } else { path.to_owned() }, query))
}

/// What follows `http://host:port`, or the same with `https`, in any case. RFC 9110 §4.2: the host is not empty.
fn behind_authority(target: &str) -> Option<&str> {
    let colon = target.find("://")?;
    let scheme = target[..colon].to_ascii_lowercase();
    let rest = &target[colon + 3..];
    let authority = rest.split(['/', '?']).next()?;
    let sound = ["http", "https"].contains(&scheme.as_str())
        && !authority.is_empty()
        && !authority.starts_with(':')
        && is_host(authority);
    sound.then_some(&rest[authority.len()..])
}

/// Percent-escapes, once. None: a broken one, or a control byte.
pub(super) fn decode(path: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            decoded.push(c);
            continue;
        }
        let high = chars.next()?.to_digit(16)?;
        let low = chars.next()?.to_digit(16)?;
        let byte = char::from_u32(high * 16 + low)?;
        if byte.is_ascii_control() {
            return None;
        }
        decoded.push(byte);
    }
    Some(decoded)
}

/// Looks a decoded path up: as it is, then in its normal form. None: it climbs above the root.
pub(super) fn find<'s>(path: &str, site: &'s Site) -> Option<Found<'s>> {
    if let Some(file) = look_up(path, site) {
        return Some(Found::File(file));
    }
    let normal = normalise(path)?;
    if let Some(file) = look_up(&normal, site) {
        return Some(Found::File(file));
    }
    if !normal.ends_with('/') && site.files.contains_key(&format!("{normal}/index.html")) {
        return Some(Found::Directory(normal));
    }
    Some(Found::Nothing)
}

fn look_up<'s>(path: &str, site: &'s Site) -> Option<&'s File> {
    let index = if path.ends_with('/') { "index.html" } else { "" };
    site.files.get(&format!("{path}{index}")).map(|file| &**file)
}

/// Empty segments go first, then dots. The last segment may be empty: the path is a directory's.
fn normalise(path: &str) -> Option<String> {
    let mut segments: Vec<&str> = path.split('/').skip(1).collect();
    if matches!(segments.last(), Some(&("." | ".."))) {
        segments.push("");
    }
    let last = segments.pop()?;
    segments.retain(|segment| !segment.is_empty());
    let mut normal = Vec::new();
    for segment in segments {
        match segment {
            "." => {}
            ".." => drop(normal.pop()?),
            _ => normal.push(segment),
        }
    }
    normal.push(last);
    Some(format!("/{}", normal.join("/")))
}

/// Where a directory's path without its slash leads.
pub(super) fn location(path: &str, query: Option<&str>) -> String {
    let mut location = String::new();
    for c in path.chars() {
        if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/".contains(c) {
            location.push(c);
        } else {
            location.push_str(&format!("%{:02X}", u32::from(c)));
        }
    }
    location.push('/');
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    location
}

/// Section 2: the first `maxage` of the query, if it is digits; clamped.
pub(super) fn max_age(query: Option<&str>) -> u128 {
    let mut parameters = query.unwrap_or_default().split('&');
    let first = parameters.find_map(|parameter| parameter.strip_prefix("maxage="));
    first.and_then(number).unwrap_or(120).min(31_536_000)
}
