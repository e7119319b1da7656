//! Where a request body ends (wire sections 3 and 7, RFC 9112 §6 and §7.1).

use super::{Reader, head::Framing, is_text, is_token};

const MAX_BODY: u128 = 64 * 1024;
const MAX_EXTRAS: usize = 4 * 1024;
/// Sixteen digits hold every size that a machine can count; the contract is silent on more.
const MAX_SIZE_DIGITS: usize = 16;

/// How a body was read.
pub(super) enum Reading {
    /// It is this many bytes.
    Whole(usize),
    /// It has not come as a whole.
    Unfinished,
    /// It is more than is thrown away.
    TooLong,
    Malformed,
}

/// Why reading chunks stops.
enum Stop {
    Unfinished,
    TooLong,
    Malformed,
}

pub(super) fn read(framing: Framing, bytes: &[u8]) -> Reading {
    match framing {
        Framing::None => Reading::Whole(0),
        Framing::Length(length) if length > MAX_BODY => Reading::TooLong,
        Framing::Length(length) if length > bytes.len() as u128 => Reading::Unfinished,
        Framing::Length(length) => Reading::Whole(length as usize),
        Framing::Chunked => {
            let mut reader = Reader { bytes, at: 0 };
            match read_chunks(&mut reader) {
                Ok(()) => Reading::Whole(reader.at),
                Err(Stop::Unfinished) => Reading::Unfinished,
                Err(Stop::TooLong) => Reading::TooLong,
                Err(Stop::Malformed) => Reading::Malformed,
            }
        }
    }
}

fn read_chunks(reader: &mut Reader<'_>) -> Result<(), Stop> {
    let mut content = 0;
    let mut extras = 0;
    loop {
        let size = read_size(reader)?;
        read_extension(reader, &mut extras)?;
        if size == 0 {
            return read_trailers(reader, &mut extras);
        }
        content += size;
        if content > MAX_BODY {
            return Err(Stop::TooLong);
        }
        for _ in 0..size {
            next(reader)?;
        }
        expect(reader, b"\r\n")?;
    }
}

fn next(reader: &mut Reader<'_>) -> Result<u8, Stop> {
    reader.next().ok_or(Stop::Unfinished)
}

fn expect(reader: &mut Reader<'_>, bytes: &[u8]) -> Result<(), Stop> {
    for byte in bytes {
        if next(reader)? != *byte {
            return Err(Stop::Malformed);
        }
    }
    Ok(())
}

fn read_size(reader: &mut Reader<'_>) -> Result<u128, Stop> {
    let mut digits = String::new();
    loop {
        match reader.peek().ok_or(Stop::Unfinished)? {
            byte if byte.is_ascii_hexdigit() => digits.push(char::from(byte)),
            _ => break,
        }
        if digits.len() > MAX_SIZE_DIGITS {
            return Err(Stop::Malformed);
        }
        reader.at += 1;
    }
    u128::from_str_radix(&digits, 16).map_err(|_| Stop::Malformed)
}

/// The rest of a size's line. White space may stand before the first `;` and not in its stead; what an extension
/// says is not looked at, so `;` alone is one.
fn read_extension(reader: &mut Reader<'_>, extras: &mut usize) -> Result<(), Stop> {
    let mut blank = false;
    loop {
        match next(reader)? {
            b'\r' if !blank => return expect(reader, b"\n"),
            b';' => break,
            b' ' | b'\t' => blank = true,
            _ => return Err(Stop::Malformed),
        }
        count(extras)?;
    }
    count(extras)?;
    loop {
        match next(reader)? {
            b'\r' => return expect(reader, b"\n"),
            byte if is_text(byte) => count(extras)?,
            _ => return Err(Stop::Malformed),
        }
    }
}

/// Trailers count with the ends of their lines, the empty line behind them does not.
fn read_trailers(reader: &mut Reader<'_>, extras: &mut usize) -> Result<(), Stop> {
    loop {
        match next(reader)? {
            b'\r' => return expect(reader, b"\n"),
            byte if is_token(byte) => count(extras)?,
            _ => return Err(Stop::Malformed),
        }
        loop {
            match next(reader)? {
                b':' => break,
                byte if is_token(byte) => count(extras)?,
                _ => return Err(Stop::Malformed),
            }
        }
        count(extras)?;
        loop {
            match next(reader)? {
                b'\r' => break,
                byte if is_text(byte) => count(extras)?,
                _ => return Err(Stop::Malformed),
            }
        }
        count(extras)?;
        expect(reader, b"\n")?;
        count(extras)?;
    }
}

/// Counts one byte of extensions and trailers.
fn count(extras: &mut usize) -> Result<(), Stop> {
    *extras += 1;
    if *extras > MAX_EXTRAS { Err(Stop::Malformed) } else { Ok(()) }
}
