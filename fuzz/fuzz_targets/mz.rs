//! The reader of `.mz`: no input makes it panic, and what it takes another decoder reads as the same bytes.
//!
//! `cargo +nightly fuzz run mz` in the root of the repository.

#![no_main]

use cloudia::feed::codec::open_mz;
use libdeflater::{DecompressionError, Decompressor};
use libfuzzer_sys::fuzz_target;

/// Larger contents only make it slower.
const ROOM: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    if let Ok(opened) = open_mz(data) {
        assert_eq!(by_another(&opened.deflate, opened.content.len()).as_ref(), Some(&opened.content));
    }
    // A mutation hardly ever finds the right checksum, so that streams are also tried in a frame that fits.
    match by_another(data, ROOM) {
        Some(content) => {
            let framed = frame(data, &content);
            match open_mz(&framed) {
                Ok(opened) => assert!(opened.content == content),
                // The other decoder says nothing of bytes behind the end of the stream.
                Err(error) => assert_eq!(error, cloudia::feed::codec::Corrupt::Trailing),
            }
        }
        None => {
            let _ = open_mz(&frame(data, b""));
        }
    }
});

fn by_another(deflate: &[u8], room: usize) -> Option<Vec<u8>> {
    let mut content = vec![0; room];
    match Decompressor::new().deflate_decompress(deflate, &mut content) {
        Ok(len) => content.truncate(len),
        Err(DecompressionError::BadData | DecompressionError::InsufficientSpace) => return None,
    }
    Some(content)
}

fn frame(deflate: &[u8], content: &[u8]) -> Vec<u8> {
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let (crc, len) = (crc32fast::hash(content).to_le_bytes(), (content.len() as u32).to_le_bytes());
    [&header, deflate, &crc, &len].concat()
}
