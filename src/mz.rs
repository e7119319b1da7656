//! Content to `.mz`: raw deflate (RFC 1951) in a gzip frame (RFC 1952). Pure, and the same bytes for the same content every
//! time: no time stamp, no name. [`crate::feed::codec`] is the reader.

use std::cell::Cell;

use libdeflater::{CompressionLvl, Compressor};

/// How hard to try. More is never larger and always slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// libdeflate's lazy search: in sum smaller than `gzip -9`, in less time.
    Fast,
    /// libdeflate's near-optimal search, or zlib where that wins: never larger than `gzip -9`, and in sum within half a
    /// percent of zopfli.
    Default,
    /// zopfli, for what is made once and fetched for long: twenty times the time of [`Effort::Default`].
    Best,
}

impl Effort {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Effort::Fast => "fast",
            Effort::Default => "default",
            Effort::Best => "best",
        }
    }

    /// The header's XFL: RFC 1952 gives 2 to the slowest and 4 to the fastest algorithm. The bit above them is this
    /// program's own: it tells its files from those of others, so that it knows what it may leave as it is. Readers pay
    /// no heed to the field (§2.3.1.2).
    const fn mark(self) -> u8 {
        match self {
            Effort::Fast => OWN | 4,
            Effort::Default => OWN,
            Effort::Best => OWN | 2,
        }
    }
}

/// No compressor made the content into anything; it cannot be with the bounds they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be compressed: the compressors gave up (please report this, with the file)")]
pub struct GaveUp;

/// Makes a `.mz` of `content`. It may be larger than `content`; whether it pays is the caller's to see.
///
/// # Errors
/// [`GaveUp`].
pub fn pack(content: &[u8], effort: Effort) -> Result<Vec<u8>, GaveUp> {
    let deflate = deflate(content, effort)?;
    let mut mz = Vec::with_capacity(HEADER + deflate.len() + TRAILER);
    mz.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, effort.mark(), UNKNOWN_SYSTEM]);
    mz.extend_from_slice(&deflate);
    mz.extend_from_slice(&crc32fast::hash(content).to_le_bytes());
    // RFC 1952: the length modulo 2^32.
    mz.extend_from_slice(&(content.len() as u32).to_le_bytes());
    Ok(mz)
}

/// The effort with which [`pack`] has made a file that begins so; None if it was made by something else.
pub fn effort(mz: &[u8]) -> Option<Effort> {
    let [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, mark, UNKNOWN_SYSTEM] = mz.get(..HEADER)? else {
        return None;
    };
    [Effort::Fast, Effort::Default, Effort::Best].into_iter().find(|effort| effort.mark() == *mark)
}

/// The smallest raw deflate stream of `content` that `effort` affords.
///
/// # Errors
/// [`GaveUp`].
pub fn deflate(content: &[u8], effort: Effort) -> Result<Vec<u8>, GaveUp> {
    let mut candidates = vec![libdeflate(content, FAST)];
    if effort >= Effort::Default {
        candidates.push(libdeflate(content, NEAR_OPTIMAL));
    }
    if content.len() <= SMALL {
        candidates.push(zlib(content));
    }
    if effort == Effort::Best {
        candidates.push(zopfli(content));
    }
    candidates.into_iter().flatten().min_by_key(Vec::len).ok_or(GaveUp)
}

/// From level 10 on a compressor takes nine megabytes, and its work so long that making it does not matter.
const MOST_KEPT: i32 = 9;

/// A raw deflate stream by libdeflate, at one of its levels from 0 to 12.
pub fn libdeflate(content: &[u8], level: i32) -> Option<Vec<u8>> {
    let is_kept = level <= MOST_KEPT;
    let level = CompressionLvl::new(level).ok()?;
    // Its tables are hundreds of kilobytes; to map and clear them again for every file takes longer than to compress it.
    let mut compressor = match COMPRESSOR.take() {
        Some((known, compressor)) if known == level => compressor,
        _ => Compressor::new(level),
    };
    let bound = compressor.deflate_compress_bound(content.len());
    // One buffer a thread: what is kept of it is copied, and lies among its like without holes between.
    let mut room = ROOM.take();
    if room.len() < bound {
        room.resize(bound, 0);
    }
    let stream = compressor.deflate_compress(content, &mut room).ok().map(|len| room[..len].to_vec());
    if room.len() <= MOST_ROOM {
        ROOM.set(room);
    }
    COMPRESSOR.set(is_kept.then_some((level, compressor)));
    stream
}

/// A larger buffer is given back at once.
const MOST_ROOM: usize = 1 << 20;

thread_local! {
    /// The compressor that was used last, and its level.
    static COMPRESSOR: Cell<Option<(CompressionLvl, Compressor)>> = const { Cell::new(None) };
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What `gzip -9` makes, by the same algorithm: the port to Rust that inflates here searches in other ways.
fn zlib(content: &[u8]) -> Option<Vec<u8>> {
    const BEST: libc::c_int = 9;
    const FRAME: (usize, usize) = (2, 4);
    // More than zlib's own bound for contents up to `SMALL`; where it is too little it says so.
    let mut framed = vec![0; content.len() + content.len() / 1000 + 64];
    let mut len = framed.len() as libz_sys::uLongf;
    // SAFETY: both pointers are of slices that live through the call and have the lengths that go with them; zlib writes
    // at most `len` bytes, reads exactly the content, and keeps neither pointer.
    let result = unsafe {
        libz_sys::compress2(framed.as_mut_ptr(), &raw mut len, content.as_ptr(), content.len() as libz_sys::uLong, BEST)
    };
    let deflate = framed.get(FRAME.0..(len as usize).checked_sub(FRAME.1)?)?;
    (result == libz_sys::Z_OK).then(|| deflate.to_vec())
}

fn zopfli(content: &[u8]) -> Option<Vec<u8>> {
    let mut stream = Vec::with_capacity(content.len() / 2);
    // Fifteen iterations, as of the zopfli program.
    zopfli::compress(zopfli::Options::default(), zopfli::Format::Deflate, content, &mut stream).ok()?;
    Some(stream)
}

/// Bytes before the stream: no name, no extra field.
const HEADER: usize = 10;
/// Bytes behind it: checksum and length.
const TRAILER: usize = 8;
/// RFC 1952 §2.3.1: the operating system, so that every one makes the same bytes.
const UNKNOWN_SYSTEM: u8 = 255;
/// See [`Effort::mark`].
const OWN: u8 = 0x10;

/// libdeflate's levels 8 and 9 differ by 0.4 % in size and by a half in time; below 8 `gzip -9` is smaller.
const FAST: i32 = 8;
/// libdeflate's last. 10 and 11 save up to half of its time for 0.1 to 1 % in size.
const NEAR_OPTIMAL: i32 = 12;
/// Up to this size zlib's level 9 is tried as well, for a tenth of the time. libdeflate lays out blocks differently: it
/// loses to `gzip -9` by a few bytes with one in fifteen below 128 bytes, rarely up to 600, and was not seen to above.
const SMALL: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::codec::open_mz;

    const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Best];

    fn text() -> Vec<u8> {
        (0..400).flat_map(|n: u32| format!("var hq_{}=\"{}\";\n", n % 70, n * n).into_bytes()).collect()
    }

    #[test]
    fn the_reader_opens_it_and_more_effort_is_never_larger() {
        for content in [Vec::new(), b"x".to_vec(), text(), vec![7; 100_000]] {
            let packed = EFFORTS.map(|effort| pack(&content, effort).unwrap());
            for mz in &packed {
                assert_eq!(open_mz(mz).unwrap().content, content);
            }
            assert!(packed.is_sorted_by_key(|mz| std::cmp::Reverse(mz.len())));
        }
    }

    #[test]
    fn the_same_bytes_every_time_with_no_time_in_them() {
        for effort in EFFORTS {
            let mz = pack(&text(), effort).unwrap();
            assert_eq!(mz, pack(&text(), effort).unwrap());
            assert_eq!(mz[3..8], [0; 5], "no flags, no time");
        }
    }

    #[test]
    fn its_own_are_known() {
        for own in EFFORTS {
            assert_eq!(effort(&pack(b"hello", own).unwrap()), Some(own));
        }
        for other in [&b"\x1f\x8b\x08\0\0\0\0\0\x02\x03"[..], b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", b"\x1f\x8b\x08", b""] {
            assert_eq!(effort(other), None);
        }
        let mut named = pack(b"hello", Effort::Best).unwrap();
        named[3] = 8;
        assert_eq!(effort(&named), None);
    }
}
