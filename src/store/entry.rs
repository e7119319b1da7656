//! One immutable version of one path: its bytes in every coding, its validators, and the fields of its answers
//! made in advance. Bytes, length, validators and fields are one object, so an answer cannot mix two versions.

use std::{ops::Deref, sync::Arc};

use crate::{
    clock::{HttpDate, http_date},
    sync::{
        ArcSwapOption, Guard,
        atomic::{AtomicBool, Ordering},
    },
};

/// A content coding that answers are sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As the file is.
    Identity,
    /// Brotli, from a sidecar.
    Br,
    /// Zstandard, from a sidecar.
    Zstd,
    /// Raw deflate in a zlib frame (RFC 1950).
    Deflate,
    /// Raw deflate in a gzip frame (RFC 1952).
    Gzip,
}

impl Coding {
    /// All codings, in the order of [`Coding::index`].
    pub const ALL: [Coding; 5] = [Coding::Identity, Coding::Br, Coding::Zstd, Coding::Deflate, Coding::Gzip];

    /// The position in [`Coding::ALL`], for tables.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The registered name, as `Content-Encoding` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Br => "br",
            Coding::Zstd => "zstd",
            Coding::Deflate => "deflate",
            Coding::Gzip => "gzip",
        }
    }
}

/// The bytes of a version.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bodies {
    /// The content.
    pub identity: Box<[u8]>,
    /// The content as one raw deflate stream (RFC 1951).
    pub deflate: Option<Box<[u8]>>,
    /// The content as a brotli stream.
    pub br: Option<Box<[u8]>>,
    /// The content as a zstd frame.
    pub zstd: Option<Box<[u8]>>,
}

impl Bodies {
    /// The content alone.
    pub fn identity(identity: Box<[u8]>) -> Self {
        Self { identity, ..Self::default() }
    }
}

/// An entity tag without its quotes: the content's hash in base64url.
pub type Etag = [u8; 11];

/// One version of one path.
///
/// A directory may have a hundred thousand of them, so what a head can be made of in some nanoseconds is not held.
pub struct Entry {
    content_type: Arc<str>,
    stamp: u64,
    last_modified: HttpDate,
    hash: u64,
    etag: Etag,
    identity_len: usize,
    /// The identity is empty where [`Entry::compact`] dropped it.
    bodies: Bodies,
    is_compact: bool,
    /// The content of a compact entry, while it is asked for.
    inflated: ArcSwapOption<Content>,
    gzip_trailer: [u8; 8],
    zlib_trailer: [u8; 4],
    /// There is more than one coding to choose from.
    varies: bool,
    /// The store has it.
    is_current: AtomicBool,
}

/// The content of a compact entry.
#[derive(Debug)]
pub struct Content {
    bytes: Box<[u8]>,
    /// It is kept for whoever asks next, so that whoever holds it besides costs no memory.
    is_kept: AtomicBool,
}

impl Content {
    /// A content that nobody keeps.
    pub fn new(bytes: Box<[u8]>) -> Self {
        Self { bytes, is_kept: AtomicBool::new(false) }
    }

    /// It is kept for whoever asks next.
    pub fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Relaxed)
    }
}

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The content of a compact entry, held for a reader.
pub struct Inflated(Guard<Option<Arc<Content>>>);

impl Inflated {
    /// Takes a share of the content, so that the thread's slot is free for the next one.
    pub fn keep(self) -> Self {
        Self(Guard::from_inner(Guard::into_inner(self.0)))
    }
}

impl Inflated {
    /// It is kept for whoever asks next.
    pub fn is_kept(&self) -> bool {
        self.0.as_ref().is_some_and(|content| content.is_kept())
    }
}

impl Deref for Inflated {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |content| content)
    }
}

/// The body of an answer as it goes on the wire: three slices, of which the outer two may be empty.
pub struct Payload<'e> {
    /// A frame's header.
    pub lead: &'e [u8],
    /// The bytes that the entry holds.
    pub body: &'e [u8],
    /// A frame's trailer.
    pub trail: &'e [u8],
}

impl<'e> Payload<'e> {
    /// In the order in which they are sent.
    pub fn slices(&self) -> [&'e [u8]; 3] {
        [self.lead, self.body, self.trail]
    }

    /// Bytes of the whole.
    pub fn len(&self) -> usize {
        self.lead.len() + self.body.len() + self.trail.len()
    }

    /// There are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// RFC 1952: deflate, no flags, no time, no statement about effort, unknown system: equal bytes on every server.
pub const fn gzip_header() -> [u8; 10] {
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]
}

/// RFC 1950: deflate with a 32 KiB window, no dictionary, default effort.
pub const fn zlib_header() -> [u8; 2] {
    [0x78, 0x9c]
}

static GZIP_HEADER: [u8; 10] = gzip_header();
static ZLIB_HEADER: [u8; 2] = zlib_header();

impl Entry {
    /// The stamp of what has none: it is never sent, and no condition is judged by it.
    pub const UNDATED: u64 = u64::MAX;

    /// Makes an entry of a version with the media type `content_type` and the stamp `stamp` (seconds since 1970).
    ///
    /// Every coding in `bodies` must decode to `bodies.identity`. One that is not smaller than the content is dropped.
    pub fn new(content_type: impl Into<Arc<str>>, stamp: u64, mut bodies: Bodies) -> Self {
        let identity_len = bodies.identity.len();
        let smaller = |body: &[u8], frame: usize| body.len() + frame < identity_len;
        bodies.br.take_if(|body| !smaller(body, 0));
        bodies.zstd.take_if(|body| !smaller(body, 0));
        // The zlib frame is the smaller of the two.
        bodies.deflate.take_if(|body| !smaller(body, ZLIB_HEADER.len() + 4));

        let hash = xxhash_rust::xxh3::xxh3_64(&bodies.identity);
        let mut gzip_trailer = [0; 8];
        gzip_trailer[..4].copy_from_slice(&crc32fast::hash(&bodies.identity).to_le_bytes());
        // RFC 1952: the length modulo 2^32.
        gzip_trailer[4..].copy_from_slice(&(identity_len as u32).to_le_bytes());
        Self {
            content_type: content_type.into(),
            stamp,
            last_modified: http_date(stamp),
            hash,
            etag: etag(hash),
            identity_len,
            zlib_trailer: simd_adler32::adler32(&&*bodies.identity).to_be_bytes(),
            gzip_trailer,
            varies: bodies.br.is_some() || bodies.zstd.is_some() || bodies.deflate.is_some(),
            bodies,
            is_compact: false,
            inflated: ArcSwapOption::empty(),
            is_current: AtomicBool::new(false),
        }
    }

    /// Holds the content compressed alone, if it is: then [`Entry::identity`] has nothing until it is inflated.
    pub fn compact(mut self) -> Self {
        if self.bodies.deflate.is_some() {
            self.bodies.identity = Box::default();
            self.is_compact = true;
        }
        self
    }

    /// The same version, told to have more codings than it has now: it may be compressed later.
    pub fn varying(self) -> Self {
        Self { varies: true, ..self }
    }

    /// The same version under another stamp.
    pub fn stamped(self, stamp: u64) -> Self {
        Self { stamp, last_modified: http_date(stamp), ..self }
    }

    /// The same version with another raw deflate stream of the same content.
    pub fn recompressed(&self, deflate: Box<[u8]>) -> Self {
        let bodies = Bodies { deflate: Some(deflate), ..self.bodies.clone() };
        Self { bodies, varies: true, ..self.copy() }
    }

    /// A copy. It is no `Clone`: nothing should be copied by the way.
    pub fn copy(&self) -> Self {
        Self {
            content_type: self.content_type.clone(),
            bodies: self.bodies.clone(),
            inflated: ArcSwapOption::empty(),
            is_current: AtomicBool::new(false),
            ..*self
        }
    }

    /// Appends the `ETag` field of the representation in `coding`: strong for identity, weak for codings, which may be
    /// recompressed without the content having changed.
    pub fn write_etag(&self, coding: Coding, out: &mut Vec<u8>) {
        out.extend_from_slice(if coding == Coding::Identity { b"ETag: \"" } else { b"ETag: W/\"" });
        out.extend_from_slice(&self.etag);
        out.extend_from_slice(b"\"\r\n");
    }

    /// The coding is there and smaller than the content.
    pub fn offers(&self, coding: Coding) -> bool {
        match coding {
            Coding::Identity => true,
            Coding::Br => self.bodies.br.is_some(),
            Coding::Zstd => self.bodies.zstd.is_some(),
            Coding::Deflate => self.bodies.deflate.is_some(),
            Coding::Gzip => self.bodies.deflate.is_some() && self.len(Coding::Gzip) < self.identity_len,
        }
    }

    /// Bytes of the body in `coding`, with its frame; of the content where the coding is not offered.
    pub fn len(&self, coding: Coding) -> usize {
        match (coding, &self.bodies) {
            (Coding::Br, Bodies { br: Some(body), .. }) => body.len(),
            (Coding::Zstd, Bodies { zstd: Some(body), .. }) => body.len(),
            (Coding::Deflate, Bodies { deflate: Some(body), .. }) => ZLIB_HEADER.len() + body.len() + 4,
            (Coding::Gzip, Bodies { deflate: Some(body), .. }) => GZIP_HEADER.len() + body.len() + 8,
            _ => self.identity_len,
        }
    }

    /// The body in `coding`, which must be one that is offered. The identity of a compact entry is not here.
    pub fn payload(&self, coding: Coding) -> Payload<'_> {
        let bare = |body| Payload { lead: &[], body, trail: &[] };
        match (coding, &self.bodies) {
            (Coding::Br, Bodies { br: Some(body), .. }) => bare(body),
            (Coding::Zstd, Bodies { zstd: Some(body), .. }) => bare(body),
            (Coding::Deflate, Bodies { deflate: Some(body), .. }) => {
                Payload { lead: &ZLIB_HEADER, body, trail: &self.zlib_trailer }
            }
            (Coding::Gzip, Bodies { deflate: Some(body), .. }) => {
                Payload { lead: &GZIP_HEADER, body, trail: &self.gzip_trailer }
            }
            _ => bare(&self.bodies.identity),
        }
    }

    /// The media type with its charset.
    pub fn content_type(&self) -> &str {
        &self.content_type
    }

    /// There is more than one coding to choose from.
    pub fn varies(&self) -> bool {
        self.varies
    }

    /// The bytes of the content, where they are held.
    pub fn identity(&self) -> Option<&[u8]> {
        (!self.is_compact).then_some(&self.bodies.identity)
    }

    /// The bytes of the content of a compact entry, where they have been inflated.
    pub fn inflated(&self) -> Option<Inflated> {
        let inflated = self.inflated.load();
        inflated.is_some().then_some(Inflated(inflated))
    }

    /// Keeps the content of a compact entry inflated, or no longer. What was kept before.
    pub fn set_inflated(&self, content: Option<Arc<Content>>) -> Option<Arc<Content>> {
        if let Some(content) = &content {
            content.is_kept.store(true, Ordering::Relaxed);
        }
        let before = self.inflated.swap(content);
        if let Some(before) = &before {
            before.is_kept.store(false, Ordering::Relaxed);
        }
        before
    }

    /// The store has it, so that whoever holds it besides costs no memory.
    pub fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    pub(super) fn set_current(&self, is_current: bool) {
        self.is_current.store(is_current, Ordering::Relaxed);
    }

    /// Its content is `content`, as far as a hash can tell.
    pub fn has_content(&self, content: &[u8]) -> bool {
        self.identity_len == content.len() && self.hash == xxhash_rust::xxh3::xxh3_64(content)
    }

    /// Bytes of the content.
    pub fn identity_len(&self) -> usize {
        self.identity_len
    }

    /// The content as one raw deflate stream, where that is smaller.
    pub fn deflate_body(&self) -> Option<&[u8]> {
        self.bodies.deflate.as_deref()
    }

    /// `other` would be answered with the same bytes.
    pub fn is_same(&self, other: &Entry) -> bool {
        let (mine, others) = (&self.bodies, &other.bodies);
        self.hash == other.hash
            && self.identity_len == other.identity_len
            && (&mine.deflate, &mine.br, &mine.zstd) == (&others.deflate, &others.br, &others.zstd)
            && self.content_type == other.content_type
    }

    /// Bytes of all bodies that are held for good.
    pub fn held_bytes(&self) -> usize {
        let Bodies { identity, deflate, br, zstd } = &self.bodies;
        identity.len() + [deflate, br, zstd].into_iter().flatten().map(|body| body.len()).sum::<usize>()
    }

    /// It has a stamp.
    pub fn is_dated(&self) -> bool {
        self.stamp != Self::UNDATED
    }

    /// When the version came to be, in seconds since 1970.
    pub fn stamp(&self) -> u64 {
        self.stamp
    }

    /// `Last-Modified`, unless the stamp's second is not over at `now`: until then another version may follow that
    /// would have to be sent under the same date.
    pub fn last_modified(&self, now: u64) -> Option<&HttpDate> {
        (self.stamp < now).then_some(&self.last_modified)
    }

    /// The entity tag without quotes.
    pub fn etag(&self) -> &Etag {
        &self.etag
    }

    /// The hash of the content.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// Eleven characters instead of sixteen hexadecimal digits: an ETag goes out with every answer and comes back with
/// every poll.
fn etag(hash: u64) -> Etag {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::array::from_fn(|at| ALPHABET[(hash >> (6 * at) & 63) as usize])
}
