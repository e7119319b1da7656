//! One Huffman code for all lines of a market (RFC 1951 §3.2.7), so that lines which were coded apart join to one
//! block. Pure.
//!
//! A block says its code once, in 50 to 80 bytes: much for a list of five. Bytes of one kind (small letters, capital
//! letters, the two kinds that names in UTF-8 are made of) get codes of about equal length, which is said in few bits. What
//! their own codes would save is less than that up to lists of fifty.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::{Range, RangeInclusive},
};

use super::bits::{BitRun, BitWriter};

/// Literals, the end of the block, and lengths of matches.
const LITERALS: usize = 286;
const DISTANCES: usize = 30;
const END: usize = 256;
/// RFC 1951 §3.2.7 has no longer codes, and for the lengths of codes none longer than this.
const LONGEST: u8 = 15;
const LONGEST_OF_LENGTHS: u8 = 7;
/// The least and the greatest length of a match.
pub const MATCH: RangeInclusive<usize> = 3..=258;
/// The greatest distance of a match.
pub const FARTHEST: usize = 32_768;
/// Symbols whose codes are about equally long: kinds of bytes, and long matches.
const KINDS: [Range<usize>; 5] = [b'a' as usize..123, b'A' as usize..91, 0x80..0xc0, 0xc0..0x100, 265..LITERALS];
/// What is rare is taken to be this share of the whole, so that its code is not longer than it need be.
const RARE: u64 = 6_000;

/// The code of one symbol, its first bit lowest. A length of 0: it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Word {
    bits: u16,
    len: u8,
}

/// How often each symbol is expected.
#[derive(Clone)]
pub struct Counts {
    literals: [u64; LITERALS],
    distances: [u64; DISTANCES],
}

/// A code for bytes and matches.
pub struct Code {
    literals: [Word; LITERALS],
    distances: [Word; DISTANCES],
    header: BitRun,
}

impl Counts {
    /// Nothing has been counted.
    pub fn new() -> Self {
        Self { literals: [0; LITERALS], distances: [0; DISTANCES] }
    }

    /// Counts bytes.
    pub fn literals(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.literals[usize::from(*byte)] += 1);
    }

    /// Counts a match.
    pub fn matched(&mut self, len: usize, distance: usize) {
        self.literals[length_code(len).0] += 1;
        self.distances[distance_code(distance).0] += 1;
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self::new()
    }
}

impl Code {
    /// The best code for what was counted. It has words for all matches, and for every byte but the control bytes other
    /// than LF.
    pub fn new(counts: &Counts) -> Self {
        let Counts { mut literals, mut distances } = counts.clone();
        for kind in KINDS {
            let mean = literals[kind.clone()].iter().sum::<u64>() / kind.len() as u64;
            literals[kind].fill(mean);
        }
        let rare = |counts: &[u64]| counts.iter().sum::<u64>() / RARE + 1;
        let least = rare(&literals);
        for (symbol, count) in literals.iter_mut().enumerate() {
            *count = if is_coded(symbol) { (*count).max(least) } else { 0 };
        }
        let least = rare(&distances);
        distances.iter_mut().for_each(|count| *count = (*count).max(least));
        let (literal_lens, distance_lens) = (lengths(&literals, LONGEST), lengths(&distances, LONGEST));
        let mut code = Self {
            literals: [Word::default(); LITERALS],
            distances: [Word::default(); DISTANCES],
            header: header(&literal_lens, &distance_lens),
        };
        assign(&literal_lens, &mut code.literals);
        assign(&distance_lens, &mut code.distances);
        code
    }

    /// What stands before the symbols of a block, which is the last of its stream.
    pub fn header(&self) -> &BitRun {
        &self.header
    }

    /// Appends the code of a byte. False: it has none, and nothing was appended.
    pub fn literal(&self, byte: u8, out: &mut BitWriter) -> bool {
        let Word { bits, len } = self.literals[usize::from(byte)];
        out.put(bits.into(), len.into());
        len > 0
    }

    /// Appends the codes of bytes. False: one of them has none, and is missing.
    pub fn literals(&self, bytes: &[u8], out: &mut BitWriter) -> bool {
        let mut coded = true;
        bytes.iter().for_each(|byte| coded &= self.literal(*byte, out));
        coded
    }

    /// Bits of the codes of bytes.
    pub fn literals_len(&self, bytes: &[u8]) -> u32 {
        bytes.iter().map(|byte| u32::from(self.literals[usize::from(*byte)].len)).sum()
    }

    /// Appends the code of a match: `len` within [`MATCH`], `distance` up to [`FARTHEST`].
    pub fn matched(&self, len: usize, distance: usize, out: &mut BitWriter) {
        let mut put = |word: Word, (_, extra_len, extra): (usize, u32, usize)| {
            out.put(u64::from(word.bits) | (extra as u64) << word.len, u32::from(word.len) + extra_len);
        };
        let (length, distance) = (length_code(len), distance_code(distance));
        put(self.literals[length.0], length);
        put(self.distances[distance.0], distance);
    }

    /// Appends the end of the block.
    pub fn end(&self, out: &mut BitWriter) {
        let Word { bits, len } = self.literals[END];
        out.put(bits.into(), len.into());
    }
}

fn is_coded(symbol: usize) -> bool {
    symbol == usize::from(b'\n') || (symbol >= 0x20 && symbol != 0x7f)
}

/// RFC 1951 §3.2.5: the symbol of a length, how many extra bits it has, and those bits.
fn length_code(len: usize) -> (usize, u32, usize) {
    let above = len - MATCH.start();
    match above {
        255 => (285, 0, 0),
        0..8 => (257 + above, 0, 0),
        _ => {
            let extra = above.ilog2() - 2;
            (257 + ((extra as usize) << 2) + (above >> extra), extra, above & ((1 << extra) - 1))
        }
    }
}

/// As [`length_code`], for a distance.
fn distance_code(distance: usize) -> (usize, u32, usize) {
    let above = distance - 1;
    match above {
        0..4 => (above, 0, 0),
        _ => {
            let extra = above.ilog2() - 1;
            (2 * extra as usize + (above >> extra), extra, above & ((1 << extra) - 1))
        }
    }
}

/// The lengths of a Huffman code for `counts`, none above `longest`; 0 where the count is 0. At least two must not be.
fn lengths(counts: &[u64], longest: u8) -> Vec<u8> {
    let mut counts = counts.to_vec();
    loop {
        let lens = huffman(&counts);
        if lens.iter().all(|len| *len <= longest) {
            return lens;
        }
        // The rare ones come nearer to the others; in the end all are equal.
        counts.iter_mut().filter(|count| **count > 0).for_each(|count| *count = *count / 2 + 1);
    }
}

fn huffman(counts: &[u64]) -> Vec<u8> {
    let used = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let mut heap: BinaryHeap<_> = used.map(|(symbol, count)| Reverse((*count, symbol))).collect();
    // Of each symbol, and of each pair behind them, the pair it became part of.
    let mut parents = vec![0; counts.len()];
    while let (Some(Reverse((a, first))), Some(Reverse((b, second)))) = (heap.pop(), heap.pop()) {
        let pair = parents.len();
        parents.push(0);
        (parents[first], parents[second]) = (pair, pair);
        heap.push(Reverse((a + b, pair)));
        if heap.len() == 1 {
            break;
        }
    }
    let root = parents.len() - 1;
    let mut depths = vec![0_u8; parents.len()];
    for node in (0..root).rev() {
        if parents[node] > 0 {
            depths[node] = depths[parents[node]].saturating_add(1);
        }
    }
    depths.truncate(counts.len());
    depths
}

/// RFC 1951 §3.2.2: codes from lengths. Their bits are turned round, since codes begin with their highest.
fn assign(lens: &[u8], words: &mut [Word]) {
    let mut code = 0_u16;
    for len in 1..=LONGEST {
        for (word, _) in words.iter_mut().zip(lens).filter(|(_, own)| **own == len) {
            *word = Word { bits: code.reverse_bits() >> (16 - len), len };
            code += 1;
        }
        code <<= 1;
    }
}

/// RFC 1951 §3.2.7, from the three bits of the block on.
fn header(literals: &[u8], distances: &[u8]) -> BitRun {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let items = run_lengths(&[literals, distances].concat());
    let mut counts = [0_u64; 19];
    items.iter().for_each(|(symbol, ..)| counts[*symbol] += 1);
    // A code needs two words.
    counts[0] = counts[0].max(1);
    counts[8] = counts[8].max(1);
    let lens = lengths(&counts, LONGEST_OF_LENGTHS);
    let mut words = [Word::default(); 19];
    assign(&lens, &mut words);
    let stated = ORDER.iter().rposition(|symbol| lens[*symbol] > 0).map_or(4, |last| (last + 1).max(4));

    let mut out = BitWriter::default();
    out.put(0b101, 3);
    out.put((literals.len() - 257) as u64, 5);
    out.put((distances.len() - 1) as u64, 5);
    out.put((stated - 4) as u64, 4);
    ORDER[..stated].iter().for_each(|symbol| out.put(lens[*symbol].into(), 3));
    for (symbol, extra_len, extra) in items {
        out.put(words[symbol].bits.into(), words[symbol].len.into());
        out.put(extra, extra_len);
    }
    out.into_run()
}

/// Lengths with their repetitions: symbol, extra bits, and how many those are.
fn run_lengths(lens: &[u8]) -> Vec<(usize, u32, u64)> {
    let mut items = Vec::new();
    for run in lens.chunk_by(|a, b| a == b) {
        let mut left = run.len();
        let len = usize::from(run[0]);
        if len > 0 {
            items.push((len, 0, 0));
            left -= 1;
        }
        while left >= 3 {
            let (symbol, extra_len, least, most) = match (len, left) {
                (0, 11..) => (18, 7, 11, 138),
                (0, _) => (17, 3, 3, 10),
                _ => (16, 2, 3, 6),
            };
            let some = left.min(most);
            items.push((symbol, extra_len, (some - least) as u64));
            left -= some;
        }
        items.extend(std::iter::repeat_n((len, 0, 0), left));
    }
    items
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress, Status};

    use super::*;

    fn inflate(stream: &[u8]) -> Option<Vec<u8>> {
        let mut content = Vec::with_capacity(1 << 20);
        let status = Decompress::new(false).decompress_vec(stream, &mut content, FlushDecompress::Finish).ok()?;
        (status == Status::StreamEnd).then_some(content)
    }

    #[test]
    fn every_length_and_distance_is_read_back() {
        for skew in 0..4 {
            let mut counts = Counts::new();
            if skew > 0 {
                // From hardly to so uneven that codes would get too long.
                (b'0'..=b'z').for_each(|byte| {
                    counts.literals[usize::from(byte)] = 1_u64 << (u32::from(byte - b'0') * skew / 5).min(40);
                });
            }
            let code = Code::new(&counts);
            let mut out = BitWriter::default();
            out.append(code.header(), u32::MAX);
            let mut expected = Vec::new();
            for byte in (0x20..=0xff).filter(|byte| *byte != 0x7f).chain([b'\n']) {
                assert!(code.literal(byte, &mut out));
                expected.push(byte);
            }
            for at in 0..33_000_u32 {
                let byte = b' ' + (at.wrapping_mul(2_654_435_761) >> 26) as u8;
                code.literal(byte, &mut out);
                expected.push(byte);
            }
            for (len, distance) in
                MATCH.map(|len| (len, len * 7)).chain((1..FARTHEST).step_by(97).chain([FARTHEST]).map(|d| (5, d)))
            {
                code.matched(len, distance, &mut out);
                (0..len).for_each(|_| expected.push(expected[expected.len() - distance]));
            }
            code.end(&mut out);
            assert_eq!(inflate(&out.into_bytes()).as_deref(), Some(&expected[..]), "skew {skew}");
        }
    }

    #[test]
    fn control_bytes_have_no_code() {
        let code = Code::new(&Counts::new());
        for byte in 0..=255 {
            let mut out = BitWriter::default();
            let coded = code.literal(byte, &mut out);
            assert_eq!(coded, !byte.is_ascii_control() || byte == b'\n', "{byte}");
            assert_eq!(code.literals_len(&[byte]) as usize, out.len());
        }
    }
}
