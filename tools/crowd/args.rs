//! What was typed, checked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::requests;

/// Connections of one source address, unless told otherwise: a household behind one router, and far fewer than it has ports.
const PER_SOURCE: u32 = 500;

/// In seconds, a bound on whatever is given in seconds.
const LONGEST: f64 = 31_536_000.0;

/// Shown behind the help.
const EXAMPLES: &str = "\
Examples:
  A thousand browsers, each polling a file whose answers say max-age=10, for a minute:
    crowd browse --connections 1000 --path '/scores.js?maxage=10'
  The same as JSON, 100,000 of them on six threads:
    crowd browse --connections 100000 --threads 6 --path '/scores.js?maxage=10' --json
  5000 requests a second of a mix, on 64 connections:
    crowd poll --rate 5000 --requests FILE
  Readers that ask for 1 MB and do not read it:
    crowd stall --connections 2000 --path /big.bin
See docs/crowd.md for what is counted and what the JSON holds.";

/// What Chrome sends for a script of the same site, but for Host.
const BROWSER: [&str; 12] = [
    "Connection: keep-alive",
    "sec-ch-ua-platform: \"Windows\"",
    "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "sec-ch-ua: \"Google Chrome\";v=\"131\", \"Chromium\";v=\"131\", \"Not_A Brand\";v=\"24\"",
    "sec-ch-ua-mobile: ?0",
    "Accept: */*",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: no-cors",
    "Sec-Fetch-Dest: script",
    "Referer: https://www.example.com/markets/overview",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
];

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "crowd",
    about = "Many clients at once, honest and hostile, for loopback addresses",
    after_help = EXAMPLES,
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
    /// What is asked for; may be repeated for browse
    #[arg(long, global = true, default_value = "/")]
    pub path: Vec<String>,
    /// Connections, of all threads
    #[arg(long, global = true, default_value_t = 64)]
    pub connections: u32,
    /// Threads, each with a descriptor table of its own
    #[arg(long, global = true, default_value_t = 1)]
    pub threads: u32,
    /// Actions a second: requests, connects or pieces sent, of all threads; browsers have times of their own
    #[arg(long, global = true, default_value_t = 1000.0)]
    pub rate: f64,
    /// How long, from when all are connected; browsers come and connect meanwhile [default: 8; browse: 60]
    #[arg(long, global = true)]
    pub seconds: Option<f64>,
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
    /// Browsers that poll: again when the max-age of an answer is over, with the validators it brought; they check what they get
    ///
    /// Each has a connection of its own, which it keeps, and polls each --path on it. Latency counts from when a request was due.
    Browse {
        /// Seconds to the next poll where an answer has no max-age, and in which the first ones come
        #[arg(long, default_value_t = 10.0)]
        every: f64,
        /// A poll is late by up to this share of the time it waits; never early
        #[arg(long, default_value_t = 0.1)]
        jitter: f64,
        /// Send If-Modified-Since alone, not If-None-Match beside it
        #[arg(long)]
        only_ims: bool,
        /// Send no header fields but Host, validators and those of --header; else also what Chrome sends, where --header has no other value
        #[arg(long)]
        bare: bool,
        /// What chance begins with: the same number makes the same schedule
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Report as JSON
        #[arg(long)]
        json: bool,
    },
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

/// How browsers poll.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// The time to the next poll where an answer says nothing of it.
    pub every: Duration,
    pub jitter: f64,
    pub only_ims: bool,
    pub seed: u64,
}

impl Mode {
    /// Those of browsers; for other modes, those of nobody.
    pub fn habits(&self) -> Habits {
        let (every, jitter, only_ims, seed) = match *self {
            Mode::Browse { every, jitter, only_ims, seed, .. } => (every, jitter, only_ims, seed),
            _ => (1.0, 0.0, false, 0),
        };
        Habits { every: Duration::try_from_secs_f64(every).unwrap_or_default(), jitter, only_ims, seed }
    }

    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Browse { .. } => "browse",
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

    /// The first path, in most modes the only one.
    pub fn path(&self) -> &str {
        self.path.first().map_or("/", String::as_str)
    }

    pub fn seconds(&self, mode: &Mode) -> f64 {
        self.seconds.unwrap_or(if matches!(mode, Mode::Browse { .. }) { 60.0 } else { 8.0 })
    }

    /// The same with fields of its own, which stand in place of those of all requests that have their names.
    pub fn head_with(&self, method: &str, path: &str, own: &[&str]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.addr);
        let of_all = self.header.iter().map(String::as_str).filter(|line| !own.iter().any(|field| same(field, line)));
        for line in of_all.chain(own.iter().copied()) {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head
    }

    /// A whole GET request.
    pub fn request(&self) -> Vec<u8> {
        (self.head("GET", self.path()) + "\r\n").into_bytes()
    }

    fn fault(&self, mode: &Mode) -> Option<&'static str> {
        let browses = matches!(mode, Mode::Browse { .. });
        let habits = mode.habits();
        let rules = [
            (self.path.len() == 1 || browses, "one --path, unless it is to be browsed"),
            (
                self.seconds(mode) <= LONGEST && self.timeout <= LONGEST && habits.every.as_secs_f64() <= LONGEST,
                "nothing takes longer than a year",
            ),
            (
                !habits.every.is_zero() && (0.0..=10.0).contains(&habits.jitter),
                "--every is positive, --jitter at least 0 and at most 10",
            ),
            (self.addr.ip().is_loopback(), "--addr is not a loopback address, and crowd is for no other"),
            (
                self.path.iter().all(|path| path.starts_with('/') && !path.contains([' ', '\r', '\n'])),
                "--path begins with a slash and has no space",
            ),
            (self.connections > 0 && self.threads > 0, "there is at least one connection and one thread"),
            (self.connections >= self.threads, "there are at least as many connections as threads"),
            (
                self.rate > 0.0 && self.seconds(mode) > 0.0 && self.timeout > 0.0,
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
    let mut args = Args::parse();
    if let Some(fault) = args.common.fault(&args.mode) {
        Args::command().error(ErrorKind::ValueValidation, fault).exit();
    }
    if let Mode::Browse { bare: false, .. } = args.mode {
        let own = &args.common.header;
        let more: Vec<_> = BROWSER.iter().filter(|line| !own.iter().any(|field| same(field, line))).collect();
        args.common.header.splice(..0, more.into_iter().map(|line| (*line).to_owned()));
    }
    args
}

/// Two field lines have one name.
fn same(line: &str, other: &str) -> bool {
    match (requests::name(line), requests::name(other)) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    }
}
