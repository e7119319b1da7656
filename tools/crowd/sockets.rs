//! Sockets as an attacker wants them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// What is special about a socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Special {
    /// The receive buffer asked for; the kernel doubles it.
    pub receive_buffer: Option<u32>,
    /// Nothing that comes in reaches the socket, not even the second step of the handshake.
    pub deaf: bool,
}

/// A socket that begins to connect.
pub fn connect(to: SocketAddr, from: Option<Ipv4Addr>, special: Special) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(bytes) = special.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes as usize)?;
    }
    if special.deaf {
        deafen(&socket)?;
    }
    if let Some(from) = from {
        // Else bind would choose a port that no other connection has, whoever they are to: there are 28,000 of those.
        set(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1_i32)?;
        rustix::net::bind(&socket, &SocketAddrV4::new(from, 0))?;
    }
    match rustix::net::connect(&socket, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// Closes a socket so that the other side sees a reset, and no TIME_WAIT is left.
pub fn reset(socket: OwnedFd) {
    // Where it fails, it is closed all the same.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

/// A filter that takes no byte of any packet: the answer to its SYN is thrown away without an acknowledgement or a reset, which
/// is what a client looks like that has vanished, or that never was where it said it is.
fn deafen(socket: &OwnedFd) -> io::Result<()> {
    let mut nothing = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: nothing.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call, which reads the value it is given the size of, and of a filter the
    // one instruction that its length says; both outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
