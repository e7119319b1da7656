//! Request target to key: the path, percent-decoded once, and its normal form. Pure.

use super::request::{is_host, is_sub_delim, is_unreserved};

/// A request target, split but not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'b> {
    /// In absolute-form, the authority: it counts instead of `Host` (RFC 9112 §3.2.2).
    pub authority: Option<&'b [u8]>,
    /// The path, beginning with `/`.
    pub path: &'b [u8],
    /// What stands behind the first `?`.
    pub query: Option<&'b [u8]>,
}

/// The target is none that a path can be read from; 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTarget;

impl<'b> Target<'b> {
    /// Reads origin-form and absolute-form (RFC 9112 §3.2).
    ///
    /// # Errors
    /// [`BadTarget`] for any other form, `*` included.
    pub fn parse(target: &'b [u8]) -> Result<Self, BadTarget> {
        let (authority, from_path) = match target {
            [b'/', ..] => (None, target),
            _ => absolute(target).map(|(authority, rest)| (Some(authority), rest))?,
        };
        let (path, query) = match from_path.iter().position(|byte| *byte == b'?') {
            Some(mark) => (&from_path[..mark], Some(&from_path[mark + 1..])),
            None => (from_path, None),
        };
        Ok(Self { authority, path: if path.is_empty() { b"/" } else { path }, query })
    }

    /// The value of the first `maxage`, as it was sent; empty where there is but the name.
    pub fn max_age(&self) -> Option<&'b [u8]> {
        self.query?.split(|byte| *byte == b'&').find_map(max_age_of)
    }
}

/// The value of a parameter that is `maxage`; empty where there is but the name.
pub fn max_age_of(parameter: &[u8]) -> Option<&[u8]> {
    match parameter.strip_prefix(b"maxage")? {
        [] => Some(&[]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    }
}

/// `GET http://host:port/path`: the authority, and what follows it, which may be nothing.
fn absolute(target: &[u8]) -> Result<(&[u8], &[u8]), BadTarget> {
    let scheme_len = [&b"http://"[..], b"https://"]
        .iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(BadTarget)?
        .len();
    let rest = &target[scheme_len..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = &rest[..end];
    if matches!(authority, [] | [b':', ..]) || !is_host(authority) {
        return Err(BadTarget);
    }
    Ok((authority, &rest[end..]))
}

/// Decodes percent-escapes once. `scratch` holds the result where there was anything to decode.
///
/// # Errors
/// [`BadTarget`] for a broken escape or one that stands for a control byte.
pub fn decode<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], BadTarget> {
    let Some(first) = memchr::memchr(b'%', path) else {
        return Ok(path);
    };
    scratch.clear();
    scratch.extend_from_slice(&path[..first]);
    let mut rest = &path[first..];
    while let [byte, after @ ..] = rest {
        let byte = match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                hex(*high)? << 4 | hex(*low)?
            }
            (b'%', _) => return Err(BadTarget),
            _ => {
                rest = after;
                *byte
            }
        };
        if byte.is_ascii_control() {
            return Err(BadTarget);
        }
        scratch.push(byte);
    }
    Ok(scratch)
}

fn hex(digit: u8) -> Result<u8, BadTarget> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadTarget),
    }
}

/// The path without empty segments, then without dot segments (RFC 3986 §5.2.4); None if it is so already.
///
/// # Errors
/// [`BadTarget`] for a path that climbs above the root.
pub fn normalise(path: &[u8]) -> Result<Option<Vec<u8>>, BadTarget> {
    let is_odd = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
    let behind_root = path.get(1..).unwrap_or_default();
    let (directories, last) = match memchr::memrchr(b'/', behind_root) {
        Some(slash) => (&behind_root[..slash], &behind_root[slash + 1..]),
        None => (&b""[..], behind_root),
    };
    let has_directories = directories.len() + last.len() < behind_root.len();
    let mut segments = directories.split(|byte| *byte == b'/');
    if !((has_directories && segments.clone().any(is_odd)) || matches!(last, b"." | b"..")) {
        return Ok(None);
    }
    let mut normal = Vec::with_capacity(path.len());
    segments.try_for_each(|segment| push_segment(&mut normal, segment))?;
    if matches!(last, b"." | b"..") {
        push_segment(&mut normal, last)?;
        normal.push(b'/');
    } else {
        normal.push(b'/');
        normal.extend_from_slice(last);
    }
    Ok(Some(normal))
}

fn push_segment(path: &mut Vec<u8>, segment: &[u8]) -> Result<(), BadTarget> {
    match segment {
        b"" | b"." => {}
        b".." => path.truncate(memchr::memrchr(b'/', path).ok_or(BadTarget)?),
        _ => {
            path.push(b'/');
            path.extend_from_slice(segment);
        }
    }
    Ok(())
}

/// `path` with everything escaped that a path may not hold (RFC 3986 §3.3).
pub fn encode(path: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in path {
        if is_unreserved(*byte) || is_sub_delim(*byte) || matches!(byte, b'/' | b':' | b'@') {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let parse = |target: &'static str| Target::parse(target.as_bytes()).map(|target| (target.path, target.query));
        assert_eq!(parse("/a?b?c"), Ok((&b"/a"[..], Some(&b"b?c"[..]))));
        assert_eq!(parse("HTTP://h:80/a"), Ok((&b"/a"[..], None)));
        assert_eq!(parse("http://h"), Ok((&b"/"[..], None)));
        assert_eq!(parse("http://h?q"), Ok((&b"/"[..], Some(&b"q"[..]))));
        for bad in ["*", "h:443", "ftp://h/a", "http:///a", "http://h:99999/", "a/b", "http://u@h/"] {
            assert_eq!(parse(bad), Err(BadTarget), "{bad}");
        }
    }

    #[test]
    fn normal_forms() {
        let normal = |path: &str| {
            normalise(path.as_bytes()).map(|normal| normal.map(|path| String::from_utf8_lossy(&path).into_owned()))
        };
        for unchanged in ["/", "/a", "/a/", "/a/b/", "/...", "/.a", "/a..", "/a/..b"] {
            assert_eq!(normal(unchanged), Ok(None), "{unchanged}");
        }
        for (path, expected) in [
            ("//", "/"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a/b//", "/a/b/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/b/../c", "/a/c"),
            ("/a//../b", "/b"),
            ("/a/../", "/"),
        ] {
            assert_eq!(normal(path), Ok(Some(expected.to_owned())), "{path}");
        }
        for climbs in ["/..", "/../a", "/a/../..", "/a/../../b", "/./..", "//.."] {
            assert_eq!(normal(climbs), Err(BadTarget), "{climbs}");
        }
    }

    #[test]
    fn decoding() {
        let decode = |path: &str| decode(path.as_bytes(), &mut Vec::new()).map(<[u8]>::to_vec);
        assert_eq!(decode("/a%20b%2Fc"), Ok(b"/a b/c".to_vec()));
        assert_eq!(decode("/%E7%BB%B5"), Ok("/绵".as_bytes().to_vec()));
        assert_eq!(decode("/%2541"), Ok(b"/%41".to_vec()));
        for bad in ["/%", "/%4", "/%zz", "/%00", "/%0a", "/%7F", "/a%2"] {
            assert_eq!(decode(bad), Err(BadTarget), "{bad}");
        }
    }

    #[test]
    fn the_first_maxage_counts() {
        let max_age = |target: &'static str| Target::parse(target.as_bytes()).ok().and_then(|target| target.max_age());
        assert_eq!(max_age("/a?maxage=5"), Some(&b"5"[..]));
        assert_eq!(max_age("/a?x=1&maxage=x&maxage=5"), Some(&b"x"[..]));
        assert_eq!(max_age("/a?maxage&maxage=5"), Some(&b""[..]));
        assert_eq!(max_age("/a?xmaxage=5&Maxage=5&maxages=5"), None);
    }
}
