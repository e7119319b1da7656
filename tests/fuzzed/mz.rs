//! The reader of `.mz`: no input makes it panic, and what it takes another decoder reads as the same bytes.

use cloudia::{
    feed::codec::open_mz,
    mz::{self, Effort},
};
use libdeflater::{DecompressionError, Decompressor};

/// Larger contents only make it slower.
const ROOM: usize = 1 << 20;

pub(crate) fn check(data: &[u8]) {
    if let Ok(opened) = open_mz(data) {
        assert_eq!(by_another(&opened.deflate, opened.content.len()).as_ref(), Some(&opened.content));
    }
    // A mutation hardly ever finds the right checksum, so that streams are also tried in a frame that fits. libdeflate
    // takes some that are not valid (length codes 286 and 287), so that to refuse is no error.
    let content = by_another(data, ROOM).unwrap_or_default();
    if let Ok(opened) = open_mz(&frame(data, &content)) {
        assert!(opened.content == content);
    }
    let made = mz::pack(data, Effort::Fast).expect("what is made");
    assert!(open_mz(&made).expect("is read").content == data);
}

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
