//! Strings of bits in the order of deflate (RFC 1951 §3.1.1): the first bit is the lowest of the first byte. Pure.

/// Bits that are put together from pieces.
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// The last bits, fewer than 64.
    pending: u64,
    count: u32,
}

impl BitWriter {
    /// Room for about so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes + 8), ..Self::default() }
    }

    /// Appends the lowest `len` bits of `bits`, at most 64; those above must be zero.
    pub fn put(&mut self, bits: u64, len: u32) {
        self.pending |= bits << self.count;
        let count = self.count + len;
        if count < 64 {
            self.count = count;
            return;
        }
        self.bytes.extend_from_slice(&self.pending.to_le_bytes());
        self.pending = bits.checked_shr(64 - self.count).unwrap_or(0);
        self.count = count - 64;
    }

    /// Appends the first `len` bits of `run`, or all that it has.
    pub fn append(&mut self, run: &BitRun, len: u32) {
        let len = len.min(run.len);
        let (whole, rest) = ((len / 64) as usize, len % 64);
        for word in &run.words[..whole] {
            self.put(*word, 64);
        }
        if rest > 0 {
            self.put(run.words[whole] & ((1 << rest) - 1), rest);
        }
    }

    /// Bits so far.
    pub fn len(&self) -> usize {
        self.bytes.len() * 8 + self.count as usize
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bits in whole bytes, the last one filled up with zeros.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let last = self.count.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..last]);
        self.bytes
    }

    /// The bits, to be appended to others.
    pub fn into_run(self) -> BitRun {
        let len = self.len() as u32;
        let bytes = self.into_bytes();
        let word = |chunk: &[u8]| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        BitRun { words: bytes.chunks(8).map(word).collect(), len }
    }
}

/// Bits at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitRun {
    words: Box<[u64]>,
    len: u32,
}

impl BitRun {
    /// How many they are.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that they take.
    pub fn held_bytes(&self) -> usize {
        self.words.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_at_every_offset() {
        let bits = |writer: BitWriter| {
            let len = writer.len();
            let bytes = writer.into_bytes();
            (0..len).map(|at| bytes[at / 8] >> (at % 8) & 1).collect::<Vec<_>>()
        };
        for before in 0..130_u32 {
            for len in [0, 1, 7, 63, 64, 65, 127, 128, 200] {
                let mut source = BitWriter::default();
                (0..len).for_each(|at| source.put(u64::from(at * 7 % 3 == 0), 1));
                let run = source.into_run();
                assert_eq!(run.len(), len);
                for part in [len, len / 2, len + 5] {
                    let mut joined = BitWriter::default();
                    (0..before).for_each(|at| joined.put(u64::from(at % 2), 1));
                    joined.append(&run, part);
                    joined.put(1, 1);
                    let part = part.min(len);
                    let expected: Vec<u8> = (0..before)
                        .map(|at| (at % 2) as u8)
                        .chain((0..part).map(|at| u8::from(at * 7 % 3 == 0)))
                        .chain([1])
                        .collect();
                    assert_eq!(bits(joined), expected, "{before} {len} {part}");
                }
            }
        }
    }
}
