//! What must hold for every joined answer, whatever it was made of.

use cloudia::{
    limits::MAX_CODED,
    store::{Coding, Entry},
};
use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;

use super::contract::{Asked, Charset, Quotes};

/// Answers are no larger.
const LARGEST: usize = 4 * 1024 * 1024;

/// How a market answers.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) prefix: &'static str,
    pub(crate) charset: Charset,
}

impl Manner {
    /// What is wrong with the answer to `asked`, None being 400.
    pub(crate) fn fault(&self, asked: &Asked, quotes: &Quotes, answer: Option<&Entry>) -> Option<String> {
        let text = asked.symbols.as_ref().map(|symbols| quotes.text(self.prefix, symbols, asked.json));
        let charset = if asked.json { Charset::Utf8 } else { self.charset };
        let (Some(text), Some(entry)) = (&text, answer) else {
            let may_be_large = text.as_ref().is_some_and(|text| match charset {
                Charset::Utf8 => text.len() > LARGEST,
                // It is three bytes in UTF-8 that become six of an escape.
                _ => text.len() * 2 > LARGEST,
            });
            let is_right = answer.is_none() && (text.is_none() || may_be_large);
            return (!is_right).then(|| format!("400: {}, expected {text:?}", answer.is_none()));
        };
        let identity = entry.identity().unwrap_or_default();
        if !charset.has(identity, text) {
            return Some(format!("{}\nexpected\n{text}", String::from_utf8_lossy(identity)));
        }
        if identity.len() > LARGEST {
            return Some(format!("{} bytes are too many", identity.len()));
        }
        if asked.json && serde_json::from_slice::<serde_json::Value>(identity).is_err() {
            return Some("it is no JSON".to_owned());
        }
        let known = asked.symbols.iter().flatten().any(|symbol| quotes.payload(symbol).is_some());
        if entry.is_dated() != known {
            return Some(format!("it has a stamp: {}, although a symbol is known: {known}", entry.is_dated()));
        }
        codings_fault(entry, identity)
    }
}

/// Both framings, each read by two decoders that did not make it, and with its checksum.
fn codings_fault(entry: &Entry, identity: &[u8]) -> Option<String> {
    // What has a payload that is too long to be coded is compressed later.
    let may_be_later = identity.len() > MAX_CODED;
    if entry.varies() != entry.offers(Coding::Deflate) && !(may_be_later && entry.varies()) {
        return Some("it says of its codings what is not so".to_owned());
    }
    for coding in [Coding::Deflate, Coding::Gzip].into_iter().filter(|coding| entry.offers(*coding)) {
        let (name, body) = (coding.name(), entry.payload(coding).slices().concat());
        if body.len() != entry.len(coding) || body.len() >= identity.len() {
            return Some(format!("{name} has {} bytes", body.len()));
        }
        let is_gzip = coding == Coding::Gzip;
        if by_flate2(&body, is_gzip, identity.len()).as_deref() != Some(identity) {
            return Some(format!("flate2 reads something else from {name}"));
        }
        if by_libdeflate(&body, is_gzip, identity.len()).as_deref() != Some(identity) {
            return Some(format!("libdeflate reads something else from {name}"));
        }
    }
    None
}

fn by_flate2(body: &[u8], is_gzip: bool, len: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(len + 1);
    if is_gzip {
        let mut decoder = flate2::bufread::GzDecoder::new(body);
        std::io::Read::read_to_end(&mut decoder, &mut content).ok()?;
        return decoder.into_inner().is_empty().then_some(content);
    }
    let mut decoder = Decompress::new(true);
    let status = decoder.decompress_vec(body, &mut content, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd && decoder.total_in() == body.len() as u64).then_some(content)
}

fn by_libdeflate(body: &[u8], is_gzip: bool, len: usize) -> Option<Vec<u8>> {
    let mut content = vec![0; len + 1];
    let mut decoder = Decompressor::new();
    let read =
        if is_gzip { decoder.gzip_decompress(body, &mut content) } else { decoder.zlib_decompress(body, &mut content) };
    content.truncate(read.ok()?);
    Some(content)
}
