//! Payloads as they stand in answers: escaped, then in the charset of the script. Pure.

use std::{borrow::Cow, fmt::Write, ops::RangeInclusive, str::FromStr};

use encoding_rs::{EncoderResult, Encoding, GB18030, GBK};

/// The charset of scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8.
    #[default]
    Utf8,
    /// GBK.
    Gbk,
    /// GB 18030.
    Gb18030,
}

impl FromStr for Charset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Charset::Utf8, Charset::Gbk, Charset::Gb18030];
        let known = all.into_iter().find(|charset| charset.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| format!("{name:?} is no charset of scripts: those are utf-8, gbk and gb18030"))
    }
}

impl Charset {
    /// As `Content-Type` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Charset::Utf8 => "utf-8",
            Charset::Gbk => "gbk",
            Charset::Gb18030 => "gb18030",
        }
    }

    fn encoding(self) -> Option<&'static Encoding> {
        match self {
            Charset::Utf8 => None,
            Charset::Gbk => Some(GBK),
            Charset::Gb18030 => Some(GB18030),
        }
    }

    /// It is not UTF-8.
    pub const fn is_legacy(self) -> bool {
        !matches!(self, Charset::Utf8)
    }

    /// `text` in this charset; what it lacks as `\uXXXX`.
    pub fn encode(self, text: &str) -> Cow<'_, [u8]> {
        let Some(encoding) = self.encoding().filter(|_| !text.is_ascii()) else {
            return Cow::Borrowed(text.as_bytes());
        };
        let mut out = Vec::with_capacity(text.len() * 2);
        let mut encoder = encoding.new_encoder();
        let mut rest = text;
        while !rest.is_empty() {
            let disputed = rest.find(|c| self.is_disputed(c)).unwrap_or(rest.len());
            let mut agreed = &rest[..disputed];
            while !agreed.is_empty() {
                // Four bytes are the most that a character takes.
                out.reserve(agreed.len() * 2 + 16);
                let (result, read) = encoder.encode_from_utf8_to_vec_without_replacement(agreed, &mut out, false);
                agreed = &agreed[read..];
                if let EncoderResult::Unmappable(c) = result {
                    escape_char(c, &mut out);
                }
            }
            rest = &rest[disputed..];
            if let Some(c) = rest.chars().next() {
                escape_char(c, &mut out);
                rest = &rest[c.len_utf8()..];
            }
        }
        Cow::Owned(out)
    }

    /// Decoders of this charset do not agree on this character: browsers follow WHATWG's tables, others those of the
    /// standard's editions.
    fn is_disputed(self, c: char) -> bool {
        let is_in = |ranges: &[RangeInclusive<u32>]| ranges.iter().any(|range| range.contains(&c.into()));
        c >= '\u{1f9}' && (is_in(&DISPUTED) || (self == Charset::Gbk && is_in(&DISPUTED_IN_GBK)))
    }
}

const DISPUTED: [RangeInclusive<u32>; 4] = [0x1e3f..=0x1e3f, 0x9fb4..=0x9fbb, 0xe7c7..=0xe7c7, 0xfe10..=0xfe19];
/// Characters that GBK has been extended by, some of them as one byte.
const DISPUTED_IN_GBK: [RangeInclusive<u32>; 7] = [
    0x1f9..=0x1f9,
    0x20ac..=0x20ac,
    0x2e80..=0x2eff,
    0x2ff0..=0x2ffb,
    0x303e..=0x303e,
    0x3400..=0x4dbf,
    0xe000..=0xf8ff,
];

/// `payload` as it may stand inside a string of JavaScript or JSON, also of a script that stands in a page.
pub fn escape(payload: &str) -> Cow<'_, str> {
    let bytes = payload.as_bytes();
    let Some(first) = bytes.iter().position(|byte| SUSPECT[usize::from(*byte)]) else {
        return Cow::Borrowed(payload);
    };
    // A suspect byte begins a character.
    let (plain, rest) = payload.split_at(first);
    let mut out = String::with_capacity(payload.len() + 16);
    out.push_str(plain);
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '<' if matches!(chars.peek(), Some('/' | '!')) => out.push_str("\\u003c"),
            '\u{2028}' | '\u{2029}' => push_escape(c, &mut out),
            _ if c.is_control() => push_escape(c, &mut out),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Bytes that may begin a character which is escaped.
static SUSPECT: [bool; 256] = {
    let mut suspect = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        suspect[byte] = byte < 0x20 || matches!(byte as u8, b'"' | b'\\' | b'<' | 0x7f | 0xc2 | 0xe2);
        byte += 1;
    }
    suspect
};

fn push_escape(c: char, out: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // A String takes every write.
        let _ = write!(out, "\\u{unit:04x}");
    }
}

fn escape_char(c: char, out: &mut Vec<u8>) {
    let mut text = String::new();
    push_escape(c, &mut text);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        for (payload, expected) in [
            ("a,b=<c>", "a,b=<c>"),
            ("绵世股份", "绵世股份"),
            ("\"\\", "\\\"\\\\"),
            ("\0\t\r\u{7f}\u{85}", "\\u0000\\u0009\\u000d\\u007f\\u0085"),
            ("\u{2028}\u{2029}\u{2027}", "\\u2028\\u2029\u{2027}"),
            ("</script><!--<b", "\\u003c/script>\\u003c!--<b"),
            ("<\"/", "<\\\"/"),
            ("©<", "©<"),
        ] {
            assert_eq!(escape(payload), expected, "{payload:?}");
        }
    }

    #[test]
    fn charsets() {
        assert_eq!(&*Charset::Gbk.encode("绵€a😀\u{e5e5}"), b"\xc3\xe0\\u20aca\\ud83d\\ude00\\ue5e5");
        assert_eq!(&*Charset::Gb18030.encode("绵€😀"), b"\xc3\xe0\xa2\xe3\x94\x39\xfc\x36");
        assert_eq!(&*Charset::Gb18030.encode("\u{1e3f}\u{e5e5}"), b"\\u1e3f\\ue5e5");
        assert_eq!(&*Charset::Utf8.encode("绵€"), "绵€".as_bytes());
        assert_eq!(&*Charset::Gbk.encode(""), b"");
    }
}
