//! Messages between the server that runs and the one that replaces it: a line each, some with descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sockopt,
};

/// The kernel takes 253 descriptors in one message.
pub(super) const DESCRIPTORS: usize = 64;

/// No message is longer.
const LINE: usize = 1024;

/// One end of the conversation. A message arrives whole or not at all.
pub(super) struct Wire(OwnedFd);

impl Wire {
    /// Over a connected socket that keeps messages apart, and that waits.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(Self(socket))
    }

    /// How long to wait for a message; None: for ever.
    pub(super) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, patience)?)
    }

    /// Says `line`, and passes `descriptors`.
    ///
    /// # Errors
    /// `BrokenPipe` or the like when the other end is gone.
    pub(super) fn send(&self, line: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        rustix::net::sendmsg(&self.0, &[IoSlice::new(line.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// What the other end says, and passes.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other end is gone, `WouldBlock` when it says nothing for too long.
    pub(super) fn receive(&self) -> io::Result<(String, Vec<OwnedFd>)> {
        let mut line = [0; LINE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut line)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
                received => break received?,
            }
        };
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.flatten().collect();
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((String::from_utf8_lossy(&line[..received.bytes]).into_owned(), descriptors))
    }

    /// For questions about the other end.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
