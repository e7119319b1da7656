//! Compressed payloads: opened and verified, and made. Pure.
//!
//! Nothing is believed that was not inflated to its end, whole, within a bound.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status};

use crate::{limits::MAX_FILE, mz};

/// Foreign codings are compared in pieces of this size.
const PIECE: usize = 16 * 1024;

/// A deflate payload that was opened.
#[derive(Debug)]
pub struct Opened {
    /// What it inflates to.
    pub content: Vec<u8>,
    /// The raw deflate stream inside.
    pub deflate: Vec<u8>,
}

/// Why a payload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// Neither gzip nor zlib.
    #[error(
        "is neither gzip (RFC 1952) nor zlib (RFC 1950); a bare deflate stream, which has no checksum, is not accepted: make it with myzip or gzip"
    )]
    Unframed,
    /// The frame's header is wrong or ends early.
    #[error("has a broken header")]
    Header,
    /// The stream is not valid.
    #[error("does not inflate: its data is damaged")]
    Data,
    /// The stream or the trailer ends early.
    #[error("is truncated")]
    Truncated,
    /// The checksum or the length does not fit the content.
    #[error("has a wrong checksum or length")]
    Checksum,
    /// Bytes follow the end.
    #[error("has bytes after its end (a second gzip member, or junk)")]
    Trailing,
    /// It inflates to more than the limit.
    #[error("inflates beyond the file size limit of 64 MiB")]
    TooLarge,
}

/// Opens a `.mz`: raw deflate in a gzip or a zlib frame.
///
/// # Errors
/// [`Corrupt`], unless it is one whole stream with the right checksum and nothing behind it.
pub fn open_mz(bytes: &[u8]) -> Result<Opened, Corrupt> {
    match bytes {
        [0x1f, 0x8b, ..] => open_gzip(bytes),
        [cmf, flags, ..] if is_zlib(*cmf, *flags) => open_zlib(bytes),
        _ => Err(Corrupt::Unframed),
    }
}

/// Opens a gzip file of one member.
///
/// # Errors
/// As [`open_mz`].
pub fn open_gzip(bytes: &[u8]) -> Result<Opened, Corrupt> {
    let stream = &bytes[gzip_header_len(bytes)?..];
    let (content, used) = inflate(stream)?;
    let (deflate, trailer) = stream.split_at(used);
    let &[c0, c1, c2, c3, l0, l1, l2, l3] = exactly(trailer)?;
    let crc = u32::from_le_bytes([c0, c1, c2, c3]);
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    if crc != crc32fast::hash(&content) || len != content.len() as u32 {
        return Err(Corrupt::Checksum);
    }
    Ok(Opened { content, deflate: deflate.to_vec() })
}

fn open_zlib(bytes: &[u8]) -> Result<Opened, Corrupt> {
    let stream = bytes.get(2..).unwrap_or_default();
    let (content, used) = inflate(stream)?;
    let (deflate, trailer) = stream.split_at(used);
    if u32::from_be_bytes(*exactly(trailer)?) != simd_adler32::adler32(&content.as_slice()) {
        return Err(Corrupt::Checksum);
    }
    Ok(Opened { content, deflate: deflate.to_vec() })
}

/// RFC 1950 §2.2: deflate with a window up to 32 KiB, the check bits right, no preset dictionary.
fn is_zlib(cmf: u8, flags: u8) -> bool {
    let check = u16::from_be_bytes([cmf, flags]);
    cmf & 0x0f == 8 && cmf >> 4 <= 7 && check.is_multiple_of(31) && flags & 0x20 == 0
}

/// RFC 1952 §2.3.
fn gzip_header_len(bytes: &[u8]) -> Result<usize, Corrupt> {
    const HEADER_CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const RESERVED: u8 = 0xe0;
    let flags = match bytes {
        [0x1f, 0x8b, 8, flags, _, _, _, _, _, _, ..] if flags & RESERVED == 0 => *flags,
        _ => return Err(Corrupt::Header),
    };
    let mut len = 10;
    if flags & EXTRA != 0 {
        let Some([low, high]) = bytes.get(len..len + 2) else {
            return Err(Corrupt::Header);
        };
        len += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let text = bytes.get(len..).ok_or(Corrupt::Header)?;
            len += memchr::memchr(0, text).ok_or(Corrupt::Header)? + 1;
        }
    }
    if flags & HEADER_CRC != 0 {
        let Some([low, high]) = bytes.get(len..len + 2) else {
            return Err(Corrupt::Header);
        };
        if u16::from_le_bytes([*low, *high]) != crc32fast::hash(&bytes[..len]) as u16 {
            return Err(Corrupt::Header);
        }
        len += 2;
    }
    if len > bytes.len() { Err(Corrupt::Header) } else { Ok(len) }
}

fn exactly<const N: usize>(trailer: &[u8]) -> Result<&[u8; N], Corrupt> {
    if trailer.len() > N {
        return Err(Corrupt::Trailing);
    }
    trailer.try_into().map_err(|_| Corrupt::Truncated)
}

/// Inflates one raw deflate stream. The content, and how many bytes the stream took.
fn inflate(stream: &[u8]) -> Result<(Vec<u8>, usize), Corrupt> {
    let limit = MAX_FILE as usize;
    let mut inflater = Decompress::new(false);
    let mut content = Vec::with_capacity((stream.len() * 4).clamp(256, limit / 8));
    loop {
        let before = (inflater.total_in(), inflater.total_out());
        let rest = &stream[before.0 as usize..];
        let status = inflater.decompress_vec(rest, &mut content, FlushDecompress::None).map_err(|_| Corrupt::Data)?;
        if content.len() > limit {
            return Err(Corrupt::TooLarge);
        }
        if status == Status::StreamEnd {
            return Ok((content, inflater.total_in() as usize));
        }
        if content.len() < content.capacity() && (inflater.total_in(), inflater.total_out()) == before {
            return Err(Corrupt::Truncated);
        }
        if content.len() == content.capacity() {
            content.reserve(content.len().min(limit + 1 - content.len()).max(1));
        }
    }
}

/// Whether a brotli stream decodes to exactly `content`, with nothing behind it.
pub fn brotli_is(stream: &[u8], mut content: &[u8]) -> bool {
    use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
    let allocators = [(); 3].map(|()| StandardAlloc::default());
    let [bytes, words, tables] = allocators;
    // Strictly RFC 7932: browsers do not read the larger windows that the format has been extended by.
    let mut state = BrotliState::new_strict(bytes, words, tables);
    let mut piece = vec![0; PIECE];
    let (mut left, mut at, mut total) = (stream.len(), 0, 0);
    loop {
        let (mut room, mut len) = (PIECE, 0);
        let (out, state) = (&mut piece, &mut state);
        let result = BrotliDecompressStream(&mut left, &mut at, stream, &mut room, &mut len, out, &mut total, state);
        match content.strip_prefix(&piece[..len]) {
            Some(rest) => content = rest,
            None => return false,
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess => return content.is_empty() && left == 0,
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => return false,
        }
    }
}

/// Whether a zstd frame decodes to exactly `content`, with nothing behind it.
pub fn zstd_is(frame: &[u8], content: &[u8]) -> bool {
    let mut rest = frame;
    let Ok(mut decoder) = ruzstd::decoding::StreamingDecoder::new(&mut rest) else {
        return false;
    };
    let decoded = decodes_to(&mut decoder, content);
    // RFC 8878 §3.1.1: the checksum, where there is one, is the low half of XXH64. The decoder reads it only.
    let checksum = decoder.decoder.get_checksum_from_data();
    decoded
        && checksum.is_none_or(|checksum| checksum == xxhash_rust::xxh64::xxh64(content, 0) as u32)
        && rest.is_empty()
}

/// Compares piece by piece, so that nothing is held and a bomb is noticed at its first byte too many.
fn decodes_to(mut decoder: impl Read, mut content: &[u8]) -> bool {
    let mut piece = vec![0; PIECE];
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return content.is_empty(),
            Ok(read) => match content.strip_prefix(&piece[..read]) {
                Some(rest) => content = rest,
                None => return false,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A change, which is to be visible at once: a millisecond or two for 100 kB.
    Change,
    /// The first load, of which there may be gigabytes.
    Load,
    /// Nobody waits.
    Best,
}

impl Effort {
    /// libdeflate's level. Its first takes the time of zlib's first, 0.4 ms for 100 kB of quotes, and makes 30 % less of
    /// it; its sixth takes 0.1 ms for 16 kB.
    fn level(self, len: usize) -> Option<i32> {
        match (self, len) {
            (Effort::Change, 0..=16_384) => Some(6),
            (Effort::Change, _) => Some(1),
            (Effort::Load, _) => Some(3),
            (Effort::Best, _) => None,
        }
    }
}

/// Compresses `content` to a raw deflate stream; None if that is not smaller.
pub fn deflate(content: &[u8], effort: Effort) -> Option<Vec<u8>> {
    // A sample tells a picture from a text.
    const SAMPLE: usize = 64 * 1024;
    if content.len() > 4 * SAMPLE {
        let sample = &content[content.len() / 2..][..SAMPLE];
        if mz::libdeflate(sample, 1)?.len() > SAMPLE / 100 * 97 {
            return None;
        }
    }
    let compressed = match effort.level(content.len()) {
        Some(level) => mz::libdeflate(content, level)?,
        None => mz::deflate(content, mz::Effort::Default).ok()?,
    };
    (compressed.len() < content.len()).then_some(compressed)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn text() -> Vec<u8> {
        (0..2000).flat_map(|n: u32| format!("var hq_{}=\"{}\";\n", n % 70, n * n).into_bytes()).collect()
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn both_frames_open_to_one_stream() {
        for content in [text(), Vec::new(), b"x".to_vec(), vec![0; 1 << 20]] {
            let (from_gzip, from_zlib) = (open_mz(&gzip(&content)).unwrap(), open_mz(&zlib(&content)).unwrap());
            assert_eq!(from_gzip.content, content);
            assert_eq!(from_zlib.content, content);
            assert_eq!(from_gzip.deflate, from_zlib.deflate);
            assert_eq!(inflate(&from_gzip.deflate).unwrap().0, content);
        }
    }

    #[test]
    fn gzip_headers_with_everything() {
        let plain = gzip(b"hello");
        let mut full = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 0, 3];
        full.extend_from_slice(b"\x03\x00abcname\0comment\0");
        let crc = (crc32fast::hash(&full) as u16).to_le_bytes();
        full.extend_from_slice(&crc);
        full.extend_from_slice(&plain[10..]);
        assert_eq!(open_gzip(&full).unwrap().content, b"hello");
        for len in 0..full.len() {
            assert!(open_gzip(&full[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn every_cut_and_every_tail_is_refused() {
        let content = text();
        for whole in [gzip(&content), zlib(&content)] {
            for len in (0..whole.len()).step_by(13).chain(whole.len() - 9..whole.len()) {
                assert!(open_mz(&whole[..len]).is_err(), "cut at {len}");
            }
            for tail in [&b"\0"[..], b"junk", &whole] {
                assert_eq!(open_mz(&[&whole, tail].concat()).unwrap_err(), Corrupt::Trailing);
            }
        }
        assert_eq!(open_mz(&deflate(&content, Effort::Load).unwrap()).unwrap_err(), Corrupt::Unframed);
        assert_eq!(open_mz(b"").unwrap_err(), Corrupt::Unframed);
    }

    #[test]
    fn a_flipped_byte_is_refused_or_harmless() {
        let content = text();
        for whole in [gzip(&content), zlib(&content)] {
            for at in 0..whole.len() {
                let mut bad = whole.clone();
                bad[at] ^= 0x55;
                if let Ok(opened) = open_mz(&bad) {
                    assert_eq!(opened.content, content, "byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        let bomb = gzip(&vec![0; MAX_FILE as usize + 1]);
        assert_eq!(open_mz(&bomb).unwrap_err(), Corrupt::TooLarge);
        assert_eq!(open_mz(&gzip(&vec![0; MAX_FILE as usize])).unwrap().content.len(), MAX_FILE as usize);
    }

    #[test]
    fn foreign_codings_must_be_exact() {
        const CONTENT: &[u8] = b"hello hello hello hello";
        // Made of it by the reference encoders.
        const BR: &[u8] = &[
            0xa1, 0xb0, 0x00, 0xc0, 0x6f, 0xa4, 0x74, 0xf3, 0x26, 0xaa, 0x32, 0xb4, 0x64, 0x03, 0x79, 0x0b, 0x79, 0xe2,
            0x00, 0xc7, 0x01,
        ];
        const ZST: &[u8] = &[
            0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x17, 0x65, 0x00, 0x00, 0x30, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x01, 0x00,
            0x99, 0x4b, 0x11, 0x17, 0x5e, 0xae, 0x0d,
        ];
        for (is, stream) in [(brotli_is as fn(&[u8], &[u8]) -> bool, BR), (zstd_is, ZST)] {
            assert!(is(stream, CONTENT));
            assert!(!is(stream, &CONTENT[1..]));
            assert!(!is(stream, &[CONTENT, b"!"].concat()));
            assert!(!is(&[stream, b"x"].concat(), CONTENT), "a byte behind the end");
            for len in 0..stream.len() {
                assert!(!is(&stream[..len], CONTENT), "cut at {len}");
            }
        }
        let mut checksum = ZST.to_vec();
        checksum[ZST.len() - 1] ^= 1;
        assert!(!zstd_is(&checksum, CONTENT), "a wrong checksum");
    }

    #[test]
    fn only_what_shrinks_is_compressed() {
        for effort in [Effort::Change, Effort::Load, Effort::Best] {
            assert!(deflate(&text(), effort).unwrap().len() < text().len());
            assert!(deflate(b"", effort).is_none());
            assert!(deflate(b"abc", effort).is_none());
        }
    }
}
