//! A chunked body as it comes in: where it ends, and how much is in it.

use crate::answer::Malformed;

/// Longer sizes, extensions and trailers than any server here sends.
const MAX_LINE: u32 = 16 * 1024;

/// What is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// A size in hexadecimal digits; `bytes` of the line have come, `digits` of them are its size.
    Size {
        size: u64,
        digits: u8,
        bytes: u32,
    },
    /// So many bytes, then the end of their line.
    Data(u64),
    End,
    /// Fields behind the last chunk, until an empty line.
    Trailer {
        line: u32,
        bytes: u32,
    },
}

impl Chunks {
    /// What a body begins with.
    pub const START: Self = Self::Size { size: 0, digits: 0, bytes: 0 };

    /// Takes the next bytes: how many belong to the body, how many of these are content, and whether it is whole.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, u64, bool), Malformed> {
        let (mut at, mut content) = (0, 0);
        while at < bytes.len() {
            if let Self::Data(left) = self {
                let here = (*left).min((bytes.len() - at) as u64);
                *left -= here;
                (at, content) = (at + here as usize, content + here);
                if *left == 0 {
                    *self = Self::End;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            if self.take_byte(byte)? {
                return Ok((at, content, true));
            }
        }
        Ok((at, content, false))
    }

    /// A byte that is no content. True: it was the last one.
    fn take_byte(&mut self, byte: u8) -> Result<bool, Malformed> {
        *self = match *self {
            Self::Size { digits: 0, bytes: 1.., .. } => return Err(Malformed),
            Self::Size { size: 0, digits: 1.., .. } if byte == b'\n' => Self::Trailer { line: 0, bytes: 0 },
            Self::Size { size, digits: 1.., .. } if byte == b'\n' => Self::Data(size),
            // Until the first byte that is no digit; what follows is an extension.
            Self::Size { size, digits, bytes } if u32::from(digits) == bytes && byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                let size = size.checked_mul(16).ok_or(Malformed)? | u64::from(digit);
                Self::Size { size, digits: digits.checked_add(1).ok_or(Malformed)?, bytes: bytes + 1 }
            }
            Self::Size { size, digits, bytes } if bytes < MAX_LINE => Self::Size { size, digits, bytes: bytes + 1 },
            Self::End if byte == b'\r' => Self::End,
            Self::End if byte == b'\n' => Self::START,
            Self::Trailer { line: 0, .. } if byte == b'\n' => return Ok(true),
            Self::Trailer { bytes, .. } if byte == b'\n' => Self::Trailer { line: 0, bytes },
            Self::Trailer { line, bytes } if byte == b'\r' => Self::Trailer { line, bytes },
            Self::Trailer { line, bytes } if bytes < MAX_LINE => Self::Trailer { line: line + 1, bytes: bytes + 1 },
            _ => return Err(Malformed),
        };
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `text` belongs to a body, and how much is in it.
    fn read(text: &str, cut: usize) -> Result<Option<(usize, u64)>, Malformed> {
        let (mut chunks, mut used, mut content) = (Chunks::START, 0, 0);
        for piece in text.as_bytes().chunks(cut) {
            let (bytes, more, whole) = chunks.take(piece)?;
            (used, content) = (used + bytes, content + more);
            if whole {
                return Ok(Some((used, content)));
            }
            assert_eq!(bytes, piece.len());
        }
        Ok(None)
    }

    #[test]
    fn a_body_ends_where_it_ends_however_it_is_cut() {
        let text = "5\r\nhello\r\n1A;name=\"value\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nDigest: none\r\n\r\nHTTP/1.1";
        for cut in 1..text.len() {
            assert_eq!(read(text, cut), Ok(Some((text.len() - 8, 31))), "in pieces of {cut}");
        }
        assert_eq!(read("0\r\n\r\n", 9), Ok(Some((5, 0))));
        assert_eq!(read("5\r\nhello\r\n0\r\n", 99), Ok(None), "its last line has not come");
    }

    #[test]
    fn what_is_no_chunk_is_malformed() {
        for text in ["x\r\n", "\r\n5\r\n", "5\r\nhellooo", "11111111111111111\r\n"] {
            assert_eq!(read(text, 1), Err(Malformed), "{text:?}");
        }
    }
}
