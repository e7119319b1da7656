//! A network of a test's own: addresses that no machine has, and packets that no socket sends.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    num::NonZero,
    process::Command,
    sync::mpsc,
    thread,
};

use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with};

/// A network that has a loopback interface and nothing else.
pub(crate) struct Network(String);

impl Network {
    /// Words before a command that run it here.
    pub(crate) fn words(&self) -> [&str; 2] {
        ["nsenter", &self.0]
    }
}

/// Runs `scene` on a thread that is in a network of its own, where the loopback interface is up and `set_up` was done by
/// `ip`. Where none can be had, it says so and does nothing.
pub(crate) fn within(set_up: &[&str], scene: impl FnOnce(&Network) + Send) {
    let root = rustix::process::geteuid().is_root();
    let entered = thread::scope(|scope| {
        let (reply, ready) = mpsc::channel();
        let inside = scope.spawn(move || {
            // SAFETY: the new network is of this thread alone, which opens all its sockets afterwards.
            let unshared = root && unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
            let done = unshared && ["link set lo up"].iter().chain(set_up).all(|line| ip(line));
            reply.send(done).unwrap();
            if done {
                let thread = fs::read_link("/proc/thread-self").unwrap();
                scene(&Network(format!("--net=/proc/{}/ns/net", thread.display())));
            }
        });
        let entered = ready.recv().unwrap();
        if let Err(why) = inside.join() {
            std::panic::resume_unwind(why);
        }
        entered
    });
    if !entered {
        eprintln!("skipped: a network of its own cannot be had here");
    }
}

fn ip(line: &str) -> bool {
    Command::new("ip").args(line.split(' ')).status().is_ok_and(|status| status.success())
}

/// Asks for so many connections in the name of others, each at an address of its own in 10/8, who will not answer.
pub(crate) fn ask_in_the_name_of_others(to: SocketAddrV4, count: u32) {
    // It takes packets with their IP header.
    let raw = NonZero::new(libc::IPPROTO_RAW as u32).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, raw).unwrap();
    for number in 0..count {
        let packet = syn(Ipv4Addr::from_bits(0x0a00_0000 | (number + 1)), to);
        sendto(&socket, &packet, SendFlags::empty(), &to).unwrap();
    }
}

/// An IPv4 packet (RFC 791) with the first segment of a connection (RFC 9293). The kernel fills in what is zero of its
/// header.
fn syn(from: Ipv4Addr, to: SocketAddrV4) -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, libc::IPPROTO_TCP as u8, 0, 0];
    header.extend(from.octets());
    header.extend(to.ip().octets());
    let mut segment = [0; 20];
    segment[..2].copy_from_slice(&40_000_u16.to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[4..8].copy_from_slice(&from.to_bits().to_be_bytes());
    // Five words of header, and the SYN bit.
    segment[12..16].copy_from_slice(&[5 << 4, 2, 0xff, 0xff]);
    let length = [0, libc::IPPROTO_TCP as u8, 0, segment.len() as u8];
    let sum = checksum([&header[12..20], &length, &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    header.extend(segment);
    header
}

/// RFC 1071, of parts of even length.
fn checksum(parts: [&[u8]; 3]) -> u16 {
    let words = parts.into_iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Connections to `port` of this thread's network that have been asked for and not confirmed.
pub(crate) fn half_open(port: u16) -> usize {
    let sockets = fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // State 3 is SYN_RECV.
    fields.filter(|fields| fields[1].ends_with(&local) && fields[3] == "03").count()
}
