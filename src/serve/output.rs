//! The bytes on their way out: heads and small bodies in one buffer, large bodies where they lie.
//!
//! A worker has one [`Output`] that all its connections share. What a full socket leaves over moves to an `Output` of
//! the connection's own, which holds a share of the entry and an offset, never a copy of a large body.

use std::{io::IoSlice, ops::Range};

use crate::{
    limits::{INLINE_BODY, SEND_BATCH, SEND_SLICES},
    store::{Coding, Held, Inflated, identities},
};

/// A sequence of bytes to send.
#[derive(Default)]
pub struct Output {
    bytes: Vec<u8>,
    larges: Vec<Large>,
    sources: Vec<Source>,
    /// Bytes of the large bodies.
    large_len: usize,
}

/// Where a large body lies.
enum Source {
    Held(Held, Coding),
    Inflated(Inflated),
    /// A content that made room for others after it was provided, and was inflated once more for this answer.
    Own(Box<[u8]>),
}

/// A part of a body that is sent from where it lies.
struct Large {
    /// Bytes of the buffer that go before it.
    behind: usize,
    source: usize,
    range: Range<usize>,
}

impl Source {
    /// The body of `entry` in `coding`; of its content, what is held or inflated.
    fn of(entry: Held, coding: Coding) -> Self {
        match (coding, entry.identity()) {
            (Coding::Identity, None) => match entry.inflated() {
                Some(inflated) => Source::Inflated(inflated),
                None => Source::Own(identities::inflate(&entry).unwrap_or_default()),
            },
            _ => Source::Held(entry, coding),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Source::Held(entry, coding) => entry.payload(*coding).body,
            Source::Inflated(content) => content,
            Source::Own(content) => content,
        }
    }

    /// Where the body lies and its bytes, if the store does not hold it for everyone.
    fn pinned(&self) -> Option<(usize, usize)> {
        match self {
            Source::Held(entry, _) if entry.is_current() => None,
            Source::Held(entry, _) => Some((&raw const **entry as usize, entry.held_bytes())),
            Source::Inflated(content) if content.is_kept() => None,
            Source::Inflated(content) => Some((content.as_ptr() as usize, content.len())),
            Source::Own(content) => Some((content.as_ptr() as usize, content.len())),
        }
    }

    fn keep(self) -> Self {
        match self {
            Source::Held(entry, coding) => Source::Held(entry.keep(), coding),
            Source::Inflated(content) => Source::Inflated(content.keep()),
            Source::Own(content) => Source::Own(content),
        }
    }
}

impl Output {
    /// Bytes to send.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large_len
    }

    /// There is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bodies that the store does not hold, or not for good: where they lie, and their bytes.
    pub fn pins(&self, mut pinned: impl FnMut(usize, usize)) {
        self.sources.iter().filter_map(Source::pinned).for_each(|(place, len)| pinned(place, len));
    }

    /// Bytes that are nobody else's.
    pub fn own_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.larges.capacity() * size_of::<Large>()
            + self.sources.capacity() * size_of::<Source>()
    }

    /// It is time to send before more is added.
    pub fn is_full(&self) -> bool {
        self.len() >= SEND_BATCH || self.larges.len() * 2 + 1 >= SEND_SLICES
    }

    /// Forgets everything; the buffer's memory stays for the next answers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.larges.clear();
        self.sources.clear();
        self.large_len = 0;
    }

    /// The buffer, to append heads and small bodies to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends `entry`'s body in `coding`, in its frame. The content of a compact entry should have been provided.
    pub fn body(&mut self, entry: Held, coding: Coding) {
        let payload = entry.payload(coding);
        self.bytes.extend_from_slice(payload.lead);
        if coding != Coding::Identity && payload.body.len() <= INLINE_BODY {
            self.bytes.extend_from_slice(payload.body);
            self.bytes.extend_from_slice(payload.trail);
            return;
        }
        let behind = self.bytes.len();
        self.bytes.extend_from_slice(payload.trail);
        let source = Source::of(entry, coding);
        let body = source.bytes();
        if body.len() <= INLINE_BODY {
            self.bytes.extend_from_slice(body);
        } else {
            self.large(behind, 0..body.len());
            self.sources.push(source);
        }
    }

    /// Appends ranges of `entry`'s content, each behind its own bytes. It should have been provided.
    pub fn parts<'p>(&mut self, entry: Held, parts: impl IntoIterator<Item = (&'p [u8], Range<usize>)>) {
        let source = Source::of(entry, Coding::Identity);
        for (before, range) in parts {
            self.bytes.extend_from_slice(before);
            if range.len() <= INLINE_BODY {
                self.bytes.extend_from_slice(&source.bytes()[range]);
            } else {
                self.large(self.bytes.len(), range);
            }
        }
        self.sources.push(source);
    }

    /// A part of the source that is pushed next.
    fn large(&mut self, behind: usize, range: Range<usize>) {
        self.large_len += range.len();
        self.larges.push(Large { behind, source: self.sources.len(), range });
    }

    /// The bytes, if they all lie in the buffer.
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.larges.is_empty().then_some(&self.bytes)
    }

    /// The next slices to send. They may not be all.
    pub fn slices<'a>(&'a self, slices: &'a mut [IoSlice<'a>; SEND_SLICES]) -> &'a [IoSlice<'a>] {
        let mut count = 0;
        for slice in self.pieces().filter(|piece| !piece.is_empty()).take(SEND_SLICES) {
            slices[count] = IoSlice::new(slice);
            count += 1;
        }
        &slices[..count]
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.larges.iter().map(|large| large.behind));
        let before = starts.zip(&self.larges).map(|(start, large)| &self.bytes[start..large.behind]);
        let last = self.larges.last().map_or(0, |large| large.behind);
        let bodies = self.larges.iter().map(|large| self.body_of(large));
        before.zip(bodies).flat_map(|(before, body)| [before, body]).chain(std::iter::once(&self.bytes[last..]))
    }

    fn body_of(&self, large: &Large) -> &[u8] {
        &self.sources[large.source].bytes()[large.range.clone()]
    }

    /// Takes out what is left after the first `sent` bytes; this output is empty afterwards.
    pub fn take_unsent(&mut self, sent: usize) -> Output {
        let mut rest = Output::default();
        let mut sources: Vec<Option<Source>> = self.sources.drain(..).map(Some).collect();
        let (mut skip, mut at) = (sent, 0);
        for large in self.larges.drain(..) {
            rest.bytes.extend_from_slice(unsent(&self.bytes[at..large.behind], &mut skip));
            at = large.behind;
            let gone = skip.min(large.range.len());
            skip -= gone;
            let range = large.range.start + gone..large.range.end;
            if range.is_empty() {
                continue;
            }
            rest.large_len += range.len();
            // Parts of one source stand together, so the last one that was taken over is this one's, if it is not new.
            rest.sources.extend(sources[large.source].take().map(Source::keep));
            rest.larges.push(Large { behind: rest.bytes.len(), source: rest.sources.len() - 1, range });
        }
        rest.bytes.extend_from_slice(unsent(&self.bytes[at..], &mut skip));
        self.clear();
        // It may be held for long, and by very many.
        rest.bytes.shrink_to_fit();
        rest.larges.shrink_to_fit();
        rest.sources.shrink_to_fit();
        rest
    }
}

fn unsent<'a>(piece: &'a [u8], skip: &mut usize) -> &'a [u8] {
    let gone = piece.len().min(*skip);
    *skip -= gone;
    &piece[gone..]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        mz,
        store::{Bodies, Change, Entry, Store},
    };

    /// Another thread may make room between the providing and the sending; the head has promised the whole by then.
    #[test]
    fn a_content_that_made_room_is_sent_whole() {
        let content = b"the same again ".repeat(1000);
        let deflate = mz::libdeflate(&content, 6).map(Vec::into_boxed_slice);
        let entry =
            Entry::new("text/plain", 0, Bodies { deflate, ..Bodies::identity(content.clone().into()) }).compact();
        assert!(entry.identity().is_none());
        let store = Store::new();
        store.apply([Change::Put(b"a"[..].into(), Arc::new(entry))]);
        let mut output = Output::default();
        output.body(store.get(b"a").unwrap(), Coding::Identity);
        output.parts(store.get(b"a").unwrap(), [(&b"part"[..], 5..20), (b"large", 0..content.len())]);
        let sent = output.pieces().collect::<Vec<_>>().concat();
        assert_eq!(sent, [&content[..], b"part", &content[5..20], b"large", &content].concat());
    }

    #[test]
    fn what_is_unsent_is_the_rest_at_every_cut() {
        let content: Vec<u8> = (0..3 * INLINE_BODY).map(|at| at as u8).collect();
        let entry = Arc::new(Entry::new("text/plain", 0, Bodies::identity(content.clone().into())));
        let store = Store::new();
        store.apply([Change::Put(b"a"[..].into(), entry)]);
        let fill = || {
            let mut output = Output::default();
            output.buffer().extend_from_slice(b"head one ");
            output.body(store.get(b"a").unwrap(), Coding::Identity);
            output.buffer().extend_from_slice(b" head two ");
            let large = 5..5 + INLINE_BODY + 1;
            output.parts(store.get(b"a").unwrap(), [(&b"part"[..], 0..10), (b"large", large), (b"end", 0..0)]);
            output
        };
        let all = fill().pieces().collect::<Vec<_>>().concat();
        assert_eq!(all.len(), fill().len());
        assert!(all.starts_with(b"head one ") && all.ends_with(b"end"));
        for first in (0..=all.len()).step_by(97).chain([8, 9, 10, all.len()]) {
            let mut rest = fill().take_unsent(first);
            assert_eq!(rest.pieces().collect::<Vec<_>>().concat(), all[first..], "cut at {first}");
            let second = rest.len() / 2;
            let rest = rest.take_unsent(second);
            assert_eq!(rest.pieces().collect::<Vec<_>>().concat(), all[first + second..], "cut at {first}, {second}");
        }
    }
}
