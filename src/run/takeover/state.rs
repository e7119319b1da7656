//! What the next server has to know so that clients see no difference: the stamps of contents, and what feeders have sent.
//! It goes through memory that is passed as a descriptor. Pure but for that.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::fs::{MemfdFlags, memfd_create};

use crate::feed::Stamped;

/// What is handed over besides sockets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::run) struct State {
    /// Of every content.
    pub(in crate::run) stamps: Vec<Stamped>,
    /// What feeders have sent, as a table.
    pub(in crate::run) fed: Vec<u8>,
}

impl State {
    /// Into memory of its own.
    pub(super) fn write(&self) -> io::Result<OwnedFd> {
        let mut file = File::from(memfd_create(c"cloudia-state", MemfdFlags::CLOEXEC)?);
        file.write_all(&self.bytes())?;
        file.rewind()?;
        Ok(file.into())
    }

    /// From what another process has written.
    ///
    /// # Errors
    /// When it ends too early.
    pub(super) fn read(memory: OwnedFd) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::from(memory).read_to_end(&mut bytes)?;
        Self::parse(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, &self.fed);
        for Stamped { content, stamp, hash } in &self.stamps {
            bytes.extend_from_slice(&stamp.to_le_bytes());
            bytes.extend_from_slice(&hash.to_le_bytes());
            put(&mut bytes, content.as_bytes());
        }
        bytes
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let fed = take(&mut bytes)?.to_vec();
        let mut stamps = Vec::new();
        while !bytes.is_empty() {
            let (stamp, rest) = bytes.split_first_chunk()?;
            let (hash, rest) = rest.split_first_chunk()?;
            bytes = rest;
            let content = Arc::from(std::str::from_utf8(take(&mut bytes)?).ok()?);
            stamps.push(Stamped { content, stamp: u64::from_le_bytes(*stamp), hash: u64::from_le_bytes(*hash) });
        }
        Some(Self { stamps, fed })
    }
}

fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
    bytes.extend_from_slice(field);
}

fn take<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (field, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
    *bytes = rest;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_arrives_as_it_was_or_not_at_all() {
        let stamped = |content: &str, stamp, hash| Stamped { content: content.into(), stamp, hash };
        let stamps = vec![stamped("a", 0, u64::MAX), stamped("dir/\u{e9}\n", 7, 0)];
        let state = State { stamps, fed: b"s=1\n".to_vec() };
        let bytes = state.bytes();
        assert_eq!(State::read(state.write().unwrap()).unwrap(), state);
        let cuts = (0..bytes.len()).filter(|cut| State::parse(&bytes[..*cut]).is_some());
        // An end behind a whole stamp cannot be told from the end.
        assert_eq!(cuts.count(), 2);
    }
}
