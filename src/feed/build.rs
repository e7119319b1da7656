//! Bytes to [`Entry`]: which of the files beside each other are believed, and what is made of them. Pure.

use super::codec::{self, Effort};
use crate::store::{Bodies, Entry};

/// The bytes of one path's files. A sidecar that could not be read is not here.
#[derive(Default)]
pub struct Parts {
    /// The content itself.
    pub plain: Option<Vec<u8>>,
    /// `.mz`
    pub mz: Option<Vec<u8>>,
    /// `.gz`
    pub gz: Option<Vec<u8>>,
    /// `.br`
    pub br: Option<Vec<u8>>,
    /// `.zst`
    pub zst: Option<Vec<u8>>,
}

/// What became of the sidecars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// `.mz`
    pub mz: Option<Verdict>,
    /// `.gz`
    pub gz: Option<Verdict>,
    /// `.br`
    pub br: Option<Verdict>,
    /// `.zst`
    pub zst: Option<Verdict>,
}

/// What became of one sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds the content.
    Used,
    /// It is whole, but holds something else.
    Stale,
    /// It is not whole.
    Corrupt(codec::Corrupt),
    /// It is damaged or holds something else; its coding does not tell which.
    Mismatch,
}

/// What was made of the files.
pub struct Built {
    /// The bodies.
    pub bodies: Bodies,
    /// What became of the sidecars.
    pub verdicts: Verdicts,
    /// The deflate body was made here, so that more effort may make a better one.
    pub is_improvable: bool,
}

/// The bodies that `parts` come to. Without a plain file the `.mz` is the content.
///
/// `held` is the version that is served now: where it has the same content and there is no sidecar, its compressed body
/// is taken over instead of being made again.
///
/// # Errors
/// Why the `.mz`, where it alone would be the content, is refused.
pub fn bodies(parts: Parts, held: Option<&Entry>, effort: Effort) -> Result<Built, codec::Corrupt> {
    let mut verdicts = Verdicts::default();
    let mut deflate = None;
    let content = match (parts.plain, &parts.mz) {
        (Some(content), _) => content,
        (None, Some(mz)) => {
            let opened = codec::open_mz(mz)?;
            verdicts.mz = Some(Verdict::Used);
            deflate = Some(opened.deflate);
            opened.content
        }
        (None, None) => Vec::new(),
    };
    if deflate.is_none() {
        // Of several deflate sidecars the first that holds the content wins; the other is still looked at, to be told of.
        for (bytes, open, verdict) in [
            (parts.mz, codec::open_mz as fn(&[u8]) -> _, &mut verdicts.mz),
            (parts.gz, codec::open_gzip, &mut verdicts.gz),
        ] {
            let Some(bytes) = bytes else { continue };
            *verdict = Some(match open(&bytes) {
                Err(corrupt) => Verdict::Corrupt(corrupt),
                Ok(opened) if opened.content != content => Verdict::Stale,
                Ok(opened) => {
                    deflate.get_or_insert(opened.deflate);
                    Verdict::Used
                }
            });
        }
    } else if let Some(gz) = parts.gz {
        verdicts.gz = Some(match codec::open_gzip(&gz) {
            Err(corrupt) => Verdict::Corrupt(corrupt),
            Ok(opened) if opened.content != content => Verdict::Stale,
            Ok(_) => Verdict::Used,
        });
    }
    let br = foreign(parts.br, &content, codec::brotli_is, &mut verdicts.br);
    let zstd = foreign(parts.zst, &content, codec::zstd_is, &mut verdicts.zst);
    let mut is_improvable = false;
    let deflate = deflate.map(Vec::into_boxed_slice).or_else(|| match held {
        Some(held) if held.has_content(&content) => held.deflate_body().map(Box::from),
        _ => {
            let deflate = codec::deflate(&content, effort).map(Vec::into_boxed_slice);
            is_improvable = deflate.is_some();
            deflate
        }
    });
    Ok(Built { bodies: Bodies { identity: content.into(), deflate, br, zstd }, verdicts, is_improvable })
}

fn foreign(
    bytes: Option<Vec<u8>>,
    content: &[u8],
    is: fn(&[u8], &[u8]) -> bool,
    verdict: &mut Option<Verdict>,
) -> Option<Box<[u8]>> {
    let bytes = bytes?;
    let used = is(&bytes, content);
    *verdict = Some(if used { Verdict::Used } else { Verdict::Mismatch });
    used.then(|| bytes.into())
}

/// A version that came before: the one served now, or one deleted within the last hour.
#[derive(Clone, Copy)]
pub struct Previous {
    /// Its stamp.
    pub stamp: u64,
    /// The hash of its content.
    pub hash: u64,
}

/// The stamp of a new version, in seconds since 1970, as `now`, the time of publication, is: its file's time, if that is not in the future and later than the version before.
///
/// Two versions may share a stamp only within the second of publication, while `Last-Modified` is left out. Where the
/// clock has stepped back behind the last stamp, the stamp goes on past it, and stays unsent until the clock has followed.
pub fn stamp(modified: u64, now: u64, previous: Option<u64>) -> u64 {
    let stamp = modified.min(now);
    match previous {
        Some(previous) if stamp <= previous => {
            if now >= previous {
                now
            } else {
                previous + 1
            }
        }
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::store::Coding;

    fn gzip(content: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn stamps_never_repeat_once_they_are_sent() {
        for (modified, now, previous, expected) in [
            (100, 200, None, 100),
            (300, 200, None, 200),
            (150, 200, Some(100), 150),
            (100, 200, Some(100), 200),
            (50, 200, Some(100), 200),
            (200, 200, Some(200), 200),
            (50, 200, Some(200), 200),
            (50, 200, Some(250), 251),
        ] {
            assert_eq!(stamp(modified, now, previous), expected, "{modified} {now} {previous:?}");
        }
    }

    #[test]
    fn sidecars_count_only_with_the_same_content() {
        let content = "hello ".repeat(100).into_bytes();
        let parts = || Parts { plain: Some(content.clone()), ..Parts::default() };
        let (mz, gz) = (gzip(&content, 9), gzip(&content, 1));
        let cases = [
            (Parts { mz: Some(mz.clone()), gz: Some(gz.clone()), ..parts() }, Some(Verdict::Used), &mz),
            (Parts { mz: Some(gzip(b"other", 9)), gz: Some(gz.clone()), ..parts() }, Some(Verdict::Stale), &gz),
            (
                Parts { mz: Some(b"junk".to_vec()), gz: Some(gz.clone()), ..parts() },
                Some(Verdict::Corrupt(codec::Corrupt::Unframed)),
                &gz,
            ),
        ];
        for (parts, verdict, deflated) in cases {
            let Built { bodies, verdicts, .. } = bodies(parts, None, Effort::Load).unwrap();
            assert_eq!(verdicts.mz, verdict);
            assert_eq!(bodies.deflate.as_deref(), Some(&deflated[10..deflated.len() - 8]));
            assert_eq!(*bodies.identity, content);
        }
    }

    #[test]
    fn a_lone_mz_is_the_content() {
        let content = "hello ".repeat(100).into_bytes();
        let parts = Parts { mz: Some(gzip(&content, 9)), ..Parts::default() };
        let Built { bodies, is_improvable, .. } = bodies(parts, None, Effort::Load).unwrap();
        assert!(!is_improvable);
        let entry = Entry::new("text/plain", 1, bodies);
        assert_eq!(entry.identity(), Some(&content[..]));
        assert!(entry.offers(Coding::Gzip) && entry.offers(Coding::Deflate));
        let refused = super::bodies(Parts { mz: Some(b"junk".to_vec()), ..Parts::default() }, None, Effort::Load);
        assert_eq!(refused.map(|_| ()), Err(codec::Corrupt::Unframed));
    }
}
