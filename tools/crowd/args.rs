//! What was typed, checked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::requests;

/// Connections of one source address, unless told otherwise: a household behind one router, and far fewer than it has ports.
const PER_SOURCE: u32 = 500;

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "crowd",
    about = "Many clients at once, honest and hostile, for loopback addresses",
    subcommand_required = true
)]
pub struct Args {
    #[command(subcommand)]
    pub mode: Mode,
    #[command(flatten)]
    pub common: Common,
}

/// What all modes share.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// The server; a loopback address
    #[arg(long, global = true, default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    /// What is asked for
    #[arg(long, global = true, default_value = "/")]
    pub path: String,
    /// Connections, of all threads
    #[arg(long, global = true, default_value_t = 64)]
    pub connections: u32,
    /// Threads, each with a descriptor table of its own
    #[arg(long, global = true, default_value_t = 1)]
    pub threads: u32,
    /// Actions a second: requests, connects or pieces sent, of all threads
    #[arg(long, global = true, default_value_t = 1000.0)]
    pub rate: f64,
    /// How long, from when all are connected
    #[arg(long, global = true, default_value_t = 8.0)]
    pub seconds: f64,
    /// The first source address
    #[arg(long, global = true, default_value = "127.1.0.1")]
    pub from: Ipv4Addr,
    /// Source addresses, from the first one on [default: one for 500 connections]
    #[arg(long, global = true)]
    pub sources: Option<u32>,
    /// A field line of the requests, such as "Accept-Encoding: gzip"; may be repeated
    #[arg(long, global = true)]
    pub header: Vec<String>,
    /// An answer or a connection that takes longer, in seconds, has failed
    #[arg(long, global = true, default_value_t = 10.0)]
    pub timeout: f64,
}

/// Who comes.
#[derive(Clone, Debug, Subcommand)]
pub enum Mode {
    /// Honest clients that keep their connections and ask at a constant rate; latency counts from when a request was due
    Poll {
        /// Connect anew after so many requests; 0: never
        #[arg(long, default_value_t = 0)]
        requests_per_connection: u64,
        /// Ask for what the lines of this file say, in turn and each thread from its own line on, instead of --path. A line is a
        /// path, then what its request has of its own, each after a tab: PATH[<TAB>Header: value]...
        #[arg(long, value_name = "FILE")]
        requests: Option<PathBuf>,
    },
    /// Connect, ask once, and stay
    Hold {
        /// Ask again every so many seconds
        #[arg(long)]
        every: Option<f64>,
    },
    /// Ask for a large answer and do not read it
    Stall {
        /// Read so many bytes a second
        #[arg(long, default_value_t = 0)]
        trickle: u32,
        /// The receive buffer asked for, before connecting
        #[arg(long, default_value_t = 4096)]
        receive_buffer: u32,
        /// The other way to stall: different files. Each client asks for its own number modulo this, which replaces {} in the path
        #[arg(long, default_value_t = 1)]
        files: u32,
    },
    /// Send a head, a byte at a time
    SlowHead {
        /// Seconds between two bytes
        #[arg(long, default_value_t = 1.0)]
        every: f64,
    },
    /// Send a body, a byte at a time
    SlowBody {
        /// Seconds between two bytes
        #[arg(long, default_value_t = 1.0)]
        every: f64,
    },
    /// Send a head whose end comes about when the server's patience ends
    LateHead {
        /// The patience of the server, in seconds
        #[arg(long, default_value_t = 10.0)]
        header_timeout: f64,
    },
    /// Pipeline requests without end and read nothing
    NeverRead,
    /// Pipeline garbage of several kinds
    Garbage {
        /// Bytes of one connection before it starts over
        #[arg(long, default_value_t = 1 << 30)]
        bytes: u64,
    },
    /// Connect and say nothing
    Silent,
    /// Begin to connect and never finish: the server's half of the handshake is thrown away
    HalfOpen,
    /// Reset the connection: at once, after a request, inside its answer
    Reset,
    /// Connect, ask and close; connect and close; connect, begin to ask and close
    Churn {
        /// Always ask
        #[arg(long)]
        ask: bool,
        /// Close so many seconds after the answer
        #[arg(long, default_value_t = 0.0)]
        keep: f64,
    },
}

impl Mode {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Poll { .. } => "poll",
            Mode::Hold { .. } => "hold",
            Mode::Stall { .. } => "stall",
            Mode::SlowHead { .. } => "slow-head",
            Mode::SlowBody { .. } => "slow-body",
            Mode::LateHead { .. } => "late-head",
            Mode::NeverRead => "never-read",
            Mode::Garbage { .. } => "garbage",
            Mode::Silent => "silent",
            Mode::HalfOpen => "half-open",
            Mode::Reset => "reset",
            Mode::Churn { .. } => "churn",
        }
    }
}

impl Common {
    /// The address from which connection `number` comes. A server on an IPv6 address sees them all from one.
    pub fn source(&self, number: u32) -> Option<Ipv4Addr> {
        let sources = self.sources.unwrap_or(self.connections.div_ceil(PER_SOURCE)).max(1);
        self.addr.is_ipv4().then(|| Ipv4Addr::from(u32::from(self.from) + number % sources))
    }

    /// A request for `path` but for the blank line at its end.
    pub fn head(&self, method: &str, path: &str) -> String {
        self.head_with(method, path, &[])
    }

    /// The same with fields of its own, which stand in place of those of all requests that have their names.
    pub fn head_with(&self, method: &str, path: &str, own: &[&str]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        let same = |line: &str, other: &str| match (requests::name(line), requests::name(other)) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        };
        let of_all = self.header.iter().map(String::as_str).filter(|line| !own.iter().any(|field| same(field, line)));
        for line in of_all.chain(own.iter().copied()) {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head
    }

    /// A whole GET request.
    pub fn request(&self) -> Vec<u8> {
        (self.head("GET", &self.path) + "\r\n").into_bytes()
    }

    fn fault(&self) -> Option<&'static str> {
        let rules = [
            (self.addr.ip().is_loopback(), "--addr is not a loopback address, and crowd is for no other"),
            (self.path.starts_with('/'), "--path begins with a slash"),
            (self.connections > 0 && self.threads > 0, "there is at least one connection and one thread"),
            (self.connections >= self.threads, "there are at least as many connections as threads"),
            (
                self.rate > 0.0 && self.seconds > 0.0 && self.timeout > 0.0,
                "--rate, --seconds and --timeout are positive",
            ),
            (self.header.iter().all(|line| line.contains(':')), "--header is a name, a colon and a value"),
            (
                self.sources.is_none_or(|count| (1..1 << 20).contains(&count)),
                "--sources is at least 1 and below a million",
            ),
        ];
        rules.iter().find(|(holds, _)| !holds).map(|(_, fault)| *fault)
    }
}

/// The arguments of this process; ends it where they are wrong.
pub fn parse() -> Args {
    let args = Args::parse();
    if let Some(fault) = args.common.fault() {
        Args::command().error(ErrorKind::ValueValidation, fault).exit();
    }
    args
}
