//! Flags, environment and file to one checked [`Config`]. After it no configuration error is possible.
//!
//! A flag beats the environment, which beats the file, which beats the default.

mod file;
mod quotes;
mod words;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum, error::ErrorKind};
use serde::Deserialize;

pub use quotes::Quotes;
use quotes::QuotesArgs;
pub use words::{OneLine, Visible};

use crate::listen::{
    Address,
    trusted::{Network, Trusted},
};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "cloudia",
    version,
    about = "Serves hot, small, often-changing files from memory",
    long_about = "Serves hot, small, often-changing files from memory.\n\nEvery file of the data directory is kept in memory, \
                  already compressed. A change is picked up by itself within milliseconds, whole or not at all. \
                  The page that fetches a file says with ?maxage=N how many seconds its copy may live.",
    after_help = "Without a command it serves. Every flag of `serve` can be set by a variable (CLOUDIA_DATA, CLOUDIA_LISTEN, \
                  ...) and by a key of the file given with --config (data, listen, ...). A flag beats a variable, which \
                  beats the file.\n\nExamples:\n  cloudia                                    serve ./data on port 8080\n  \
                  cloudia --data /srv/feed --listen [::]:80 --listen 0.0.0.0:80 --user www-data\n  cloudia check --config \
                  cloudia.toml",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a data directory (the default command)
    Serve(Box<ServeArgs>),
    /// Check a configuration's keys and values, or list what of a data directory would be served: exit 0 if all is well, 1 if not
    Check {
        /// The configuration to check
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The data directory to look through: what would be served, and what refused
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// The flags of `serve`, which are the keys of the file as well.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default)]
struct ServeArgs {
    /// Read these settings from a file (TOML)
    #[arg(long, value_name = "FILE", env = "CLOUDIA_CONFIG")]
    #[serde(skip)]
    config: Option<PathBuf>,

    /// The directory to serve [default: data]
    #[arg(long, value_name = "DIR", env = "CLOUDIA_DATA")]
    data: Option<PathBuf>,

    /// Where to listen: ADDR:PORT, [ADDR]:PORT or unix:/path; may be repeated [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR:PORT", env = "CLOUDIA_LISTEN", value_delimiter = ',')]
    #[serde(deserialize_with = "file::one_or_more")]
    listen: Vec<Address>,

    /// Where to listen for balancers that begin every connection with a header of the PROXY protocol, v1 or v2; may be repeated
    #[arg(long, value_name = "ADDR:PORT", env = "CLOUDIA_LISTEN_PROXY", value_delimiter = ',')]
    #[serde(deserialize_with = "file::one_or_more")]
    listen_proxy: Vec<Address>,

    /// Who may connect to --listen-proxy, and whose X-Forwarded-For is shown in logs: addresses and networks; may be repeated
    #[arg(long, value_name = "ADDR[/BITS]", env = "CLOUDIA_TRUSTED_PROXIES", value_delimiter = ',')]
    #[serde(deserialize_with = "file::one_or_more")]
    trusted_proxies: Vec<Network>,

    /// Where to answer health checks and metrics, or off [default: 127.0.0.1:9180]
    #[arg(long, value_name = "ADDR:PORT|off", env = "CLOUDIA_ADMIN")]
    #[serde(deserialize_with = "file::from_text")]
    admin: Option<Admin>,

    /// The file with the token that admin requests must bring (Authorization: Bearer TOKEN); needed beyond loopback
    #[arg(long, value_name = "FILE", env = "CLOUDIA_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,

    /// A name under which the admin listener may be asked, besides localhost and its addresses; may be repeated
    #[arg(long = "admin-name", value_name = "NAME", env = "CLOUDIA_ADMIN_NAMES", value_delimiter = ',')]
    #[serde(deserialize_with = "file::one_or_more")]
    admin_names: Vec<Name>,

    /// Threads that serve [default: one per core]
    #[arg(long, value_name = "N", env = "CLOUDIA_WORKERS")]
    workers: Option<usize>,

    /// Close a connection that has been idle for this many seconds [default: 75]
    #[arg(long, value_name = "SECS", env = "CLOUDIA_KEEP_ALIVE_TIMEOUT")]
    keep_alive_timeout: Option<u32>,

    /// Seconds that a request's head may take to arrive [default: 10]
    #[arg(long, value_name = "SECS", env = "CLOUDIA_HEADER_TIMEOUT")]
    header_timeout: Option<u32>,

    /// Cut a client that takes no byte of its answer for this many seconds [default: 30]
    #[arg(long, value_name = "SECS", env = "CLOUDIA_SEND_TIMEOUT")]
    send_timeout: Option<u32>,

    /// Seconds that open connections get to finish when asked to stop [default: 5]
    #[arg(long, value_name = "SECS", env = "CLOUDIA_GRACE")]
    grace: Option<u32>,

    /// Become this user once the ports are bound
    #[arg(long, value_name = "NAME", env = "CLOUDIA_USER")]
    user: Option<String>,

    /// Answer 503 beyond so many connections [default: what the descriptor limit allows]
    #[arg(long, value_name = "N", env = "CLOUDIA_MAX_CONNECTIONS")]
    max_connections: Option<usize>,

    /// Answer 503 beyond so many connections of one address, or of one IPv6 /64 [default: no limit]
    #[arg(long, value_name = "N", env = "CLOUDIA_MAX_CONNECTIONS_PER_IP")]
    max_connections_per_ip: Option<u32>,

    /// When there are too many connections, close the longest idle one instead of refusing the new one
    #[arg(long, env = "CLOUDIA_EVICT_IDLE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    evict_idle: Option<bool>,

    /// Replace the cloudia that serves one of the addresses, once everything is loaded: no request fails. Without one, just start
    #[arg(long, env = "CLOUDIA_TAKE_OVER", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip)]
    take_over: Option<bool>,

    /// Let the kernel hold new connections back until their first bytes have come, or for a second: a fifth less CPU for each
    #[arg(long, env = "CLOUDIA_DEFER_ACCEPT", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    defer_accept: Option<bool>,

    /// Log who is refused and why, ten lines a second of each worker at the most
    #[arg(long, env = "CLOUDIA_LOG_REFUSED", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    log_refused: Option<bool>,

    /// Hold at most so many bytes of files; what does not fit is not served [default: no limit]
    #[arg(long, value_name = "SIZE", env = "CLOUDIA_MEMORY_LIMIT")]
    #[serde(deserialize_with = "file::from_text")]
    memory_limit: Option<Size>,

    /// How to wait for the network [default: auto]
    #[arg(long, value_name = "DRIVER", env = "CLOUDIA_IO")]
    io: Option<IoChoice>,

    #[arg(skip)]
    quotes: QuotesArgs,
}

/// How to wait for the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoChoice {
    /// io_uring where it is allowed, else epoll
    #[default]
    Auto,
    /// io_uring or nothing
    Uring,
    /// epoll
    Epoll,
}

/// Where the admin listener is, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// Here.
    At(SocketAddr),
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Admin::Off);
        }
        text.parse().map(Admin::At).map_err(|_| format!("{text:?} is not ADDR:PORT such as 127.0.0.1:9180, nor off"))
    }
}

/// The name of a host, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let is_name = text.len() <= 253 && text.split('.').all(is_label);
        let name = is_name.then(|| Self(text.to_ascii_lowercase()));
        name.ok_or_else(|| format!("{text:?} is not the name of a host such as cloudia.example.com, without a port"))
    }
}

/// A number of bytes, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim().to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B')
        {
            "" => Some(0),
            "K" => Some(10),
            "M" => Some(20),
            "G" => Some(30),
            "T" => Some(40),
            _ => None,
        };
        let size = digits.parse::<u64>().ok().zip(shift).and_then(|(number, shift)| number.checked_mul(1 << shift));
        size.map(Size).ok_or_else(|| format!("{text:?} is not a size such as 512M, 2G or 1000000000"))
    }
}

/// What to do.
#[derive(Debug)]
pub enum Task {
    /// Serve.
    Serve(Box<Config>),
    /// Say that a configuration is good, and look through a data directory.
    Check {
        /// The configuration, which was checked.
        config: Option<PathBuf>,
        /// The directory.
        data: Option<PathBuf>,
    },
}

/// A configuration that was checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory.
    pub data: PathBuf,
    /// At least one.
    pub listen: Vec<Address>,
    /// They were asked for, and are not the default.
    pub listen_is_set: bool,
    /// Where balancers connect.
    pub listen_proxy: Vec<Address>,
    /// Proxies whose word is taken.
    pub trusted_proxies: Trusted,
    /// Where the admin listener is.
    pub admin: Admin,
    /// The file with what admin requests must know.
    pub admin_token_file: Option<PathBuf>,
    /// Names of the admin listener, in lower case.
    pub admin_names: Vec<String>,
    /// Threads that serve; None: one a core.
    pub workers: Option<usize>,
    /// In seconds, like the following.
    pub keep_alive_timeout: u32,
    /// For a head.
    pub header_timeout: u32,
    /// Between two bytes of an answer.
    pub send_timeout: u32,
    /// For the end.
    pub grace: u32,
    /// Whom to become.
    pub user: Option<String>,
    /// None: what the descriptor limit allows.
    pub max_connections: Option<usize>,
    /// Of one address; None: no limit.
    pub max_connections_per_ip: Option<u32>,
    /// The longest idle connection makes room for a new one.
    pub evict_idle: bool,
    /// The server that runs is to be replaced.
    pub take_over: bool,
    /// Connections are accepted when their first bytes have come.
    pub defer_accept: bool,
    /// Who is refused is logged.
    pub log_refused: bool,
    /// Bytes of files to hold at the most; None: no limit.
    pub memory_limit: Option<u64>,
    /// How to wait.
    pub io: IoChoice,
    /// Quotes.
    pub quotes: Quotes,
}

/// A configuration that is not good: one line that names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is at fault, or asks for help, which is no fault.
    #[error("{0}")]
    Usage(clap::Error),
    /// Some value is.
    #[error("{0}")]
    Value(String),
    /// The file of `check` is at fault.
    #[error("{0}")]
    Checked(String),
}

const MAX_WORKERS: usize = 1024;
const MAX_SECS: u32 = 7 * 24 * 3600;

impl Task {
    /// Reads the command line, and what it names.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let arguments: Vec<_> = arguments.into_iter().collect();
        let cli = Cli::try_parse_from(&arguments).map_err(|error| match error.kind() {
            ErrorKind::InvalidUtf8 => ConfigError::Value(not_text(&arguments)),
            _ => ConfigError::Usage(error),
        })?;
        match cli.command {
            Some(Command::Check { config: None, data: None }) => Err(ConfigError::Value(
                "check needs --config FILE or --data DIR (cloudia --help tells more)".to_owned(),
            )),
            Some(Command::Check { config, data }) => {
                if let Some(config) = &config {
                    let checked =
                        file::read(config).and_then(|args| args.check().map_err(|error| file::of_file(config, &error)));
                    checked.map_err(ConfigError::Checked)?;
                }
                Ok(Task::Check { config, data })
            }
            Some(Command::Serve(args)) => args.into_task(),
            None => cli.serve.into_task(),
        }
    }
}

/// Names may be any bytes, everything else is text.
fn not_text(arguments: &[OsString]) -> String {
    let odd = arguments.iter().filter(|argument| argument.to_str().is_none());
    let odd: Vec<_> = odd.map(|argument| format!("{argument:?}")).collect();
    format!("{} is not UTF-8, which only paths need not be", odd.join(", "))
}

impl ServeArgs {
    fn into_task(self) -> Result<Task, ConfigError> {
        let below = match &self.config {
            Some(path) => file::read(path).map_err(ConfigError::Value)?,
            None => ServeArgs::default(),
        };
        let (path, alone) = (self.config.clone(), below.clone().check());
        let config = self.over(below).check().map_err(|error| match (path, alone) {
            (Some(path), Err(same)) if same == error => ConfigError::Value(file::of_file(&path, &error)),
            _ => ConfigError::Value(error),
        });
        config.map(|config| Task::Serve(Box::new(config)))
    }

    fn over(self, below: ServeArgs) -> ServeArgs {
        ServeArgs {
            config: self.config,
            data: self.data.or(below.data),
            listen: if self.listen.is_empty() { below.listen } else { self.listen },
            listen_proxy: if self.listen_proxy.is_empty() { below.listen_proxy } else { self.listen_proxy },
            trusted_proxies: if self.trusted_proxies.is_empty() { below.trusted_proxies } else { self.trusted_proxies },
            admin: self.admin.or(below.admin),
            admin_token_file: self.admin_token_file.or(below.admin_token_file),
            admin_names: if self.admin_names.is_empty() { below.admin_names } else { self.admin_names },
            workers: self.workers.or(below.workers),
            keep_alive_timeout: self.keep_alive_timeout.or(below.keep_alive_timeout),
            header_timeout: self.header_timeout.or(below.header_timeout),
            send_timeout: self.send_timeout.or(below.send_timeout),
            grace: self.grace.or(below.grace),
            user: self.user.or(below.user),
            max_connections: self.max_connections.or(below.max_connections),
            max_connections_per_ip: self.max_connections_per_ip.or(below.max_connections_per_ip),
            evict_idle: self.evict_idle.or(below.evict_idle),
            take_over: self.take_over,
            defer_accept: self.defer_accept.or(below.defer_accept),
            log_refused: self.log_refused.or(below.log_refused),
            memory_limit: self.memory_limit.or(below.memory_limit),
            io: self.io.or(below.io),
            // There are no flags for these.
            quotes: below.quotes,
        }
    }

    fn check(self) -> Result<Config, String> {
        let within = |name: &str, value: Option<u32>, least: u32, default: u32| match value {
            Some(value) if value < least || value > MAX_SECS => {
                Err(format!("{name} is {value}, it must be between {least} and {MAX_SECS} seconds"))
            }
            value => Ok(value.unwrap_or(default)),
        };
        if let Some(workers) = self.workers
            && !(1..=MAX_WORKERS).contains(&workers)
        {
            return Err(format!("workers is {workers}, it must be between 1 and {MAX_WORKERS}"));
        }
        if self.max_connections == Some(0) {
            return Err("max-connections is 0, it must be at least 1".to_owned());
        }
        if self.max_connections_per_ip == Some(0) {
            return Err("max-connections-per-ip is 0, it must be at least 1".to_owned());
        }
        let admin = self.admin.unwrap_or(Admin::At(SocketAddr::from(([127, 0, 0, 1], 9180))));
        self.check_addresses(admin)?;
        let listen_is_set = !(self.listen.is_empty() && self.listen_proxy.is_empty());
        let listen =
            if !listen_is_set { vec![Address::Tcp(SocketAddr::from(([0, 0, 0, 0], 8080)))] } else { self.listen };
        Ok(Config {
            data: self.data.unwrap_or_else(|| "data".into()),
            listen,
            listen_is_set,
            listen_proxy: self.listen_proxy,
            trusted_proxies: self.trusted_proxies.into_iter().collect(),
            admin,
            admin_token_file: self.admin_token_file,
            admin_names: self.admin_names.into_iter().map(|Name(name)| name).collect(),
            workers: self.workers,
            keep_alive_timeout: within("keep-alive-timeout", self.keep_alive_timeout, 1, 75)?,
            header_timeout: within("header-timeout", self.header_timeout, 1, 10)?,
            send_timeout: within("send-timeout", self.send_timeout, 1, 30)?,
            grace: within("grace", self.grace, 0, 5)?,
            user: self.user,
            max_connections: self.max_connections,
            max_connections_per_ip: self.max_connections_per_ip,
            evict_idle: self.evict_idle.unwrap_or(false),
            take_over: self.take_over.unwrap_or(false),
            defer_accept: self.defer_accept.unwrap_or(false),
            log_refused: self.log_refused.unwrap_or(false),
            memory_limit: self.memory_limit.map(|Size(bytes)| bytes),
            io: self.io.unwrap_or_default(),
            quotes: self.quotes.check()?,
        })
    }

    fn check_addresses(&self, admin: Admin) -> Result<(), String> {
        let flags = [("--listen", &self.listen), ("--listen-proxy", &self.listen_proxy)];
        let all: Vec<_> =
            flags.iter().flat_map(|(flag, list)| list.iter().map(move |address| (*flag, address))).collect();
        for (at, (flag, address)) in all.iter().enumerate() {
            // Of port 0 each picks another.
            let is_one = !matches!(address, Address::Tcp(address) if address.port() == 0);
            match all[..at].iter().find(|(_, other)| other == address) {
                Some((first, _)) if first == flag => {
                    return Err(format!("{address} stands twice in {flag}: name each address once"));
                }
                Some((first, _)) if is_one => {
                    return Err(format!(
                        "{address} is given with {first} and with {flag}: name another with one of them"
                    ));
                }
                _ => {}
            }
            if is_one && matches!(admin, Admin::At(admin) if **address == Address::Tcp(admin)) {
                return Err(format!("{address} is given with {flag} and with --admin: name another with --admin"));
            }
        }
        if self.trusted_proxies.is_empty()
            && let Some(address) = self.listen_proxy.iter().find(|address| matches!(address, Address::Tcp(_)))
        {
            return Err(format!(
                "--listen-proxy {address} is for balancers: name their addresses or networks with --trusted-proxies"
            ));
        }
        if let Admin::At(address) = admin
            && !address.ip().to_canonical().is_loopback()
            && self.admin_token_file.is_none()
        {
            return Err(format!(
                "--admin {address} can be reached from other machines: name a file with a token with --admin-token-file, or \
                 use --admin 127.0.0.1:{}",
                address.port()
            ));
        }
        if matches!(&self.admin_token_file, Some(path) if path.as_os_str().is_empty()) {
            return Err("admin-token-file is empty: name a file, or leave it out".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Result<Config, String> {
        let arguments = std::iter::once("cloudia").chain(arguments.iter().copied()).map(Into::into);
        match Task::parse(arguments) {
            Ok(Task::Serve(config)) => Ok(*config),
            Ok(Task::Check { .. }) => Err("checked".to_owned()),
            Err(ConfigError::Usage(error)) => Err(OneLine(&error).to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn bare_is_serve_with_defaults() {
        let config = serve(&[]).unwrap();
        assert_eq!(config.data, std::path::Path::new("data"));
        assert_eq!(config.listen, ["0.0.0.0:8080".parse().unwrap()]);
        assert_eq!(config.admin, "127.0.0.1:9180".parse().unwrap());
        assert_eq!(
            (config.keep_alive_timeout, config.header_timeout, config.send_timeout, config.grace),
            (75, 10, 30, 5)
        );
    }

    #[test]
    fn flags_with_and_without_the_command() {
        for prefix in [&[][..], &["serve"]] {
            let flags = ["--listen", "[::1]:1", "--listen", "unix:/tmp/s", "--admin", "off", "--io", "epoll"];
            let config = serve(&[prefix, &flags].concat()).unwrap();
            assert_eq!(config.listen, ["[::1]:1".parse().unwrap(), Address::Unix("/tmp/s".into())]);
            assert_eq!((config.admin, config.io), (Admin::Off, IoChoice::Epoll));
        }
    }

    #[test]
    fn faults_are_one_line_with_a_remedy() {
        for (arguments, named) in [
            (&["--listn", "x"][..], "--listen"),
            (&["--listen", "nonsense"], "ADDR:PORT"),
            (&["--workers", "0"], "between 1 and"),
            (&["--workers", "many"], "--workers"),
            (&["--io", "magic"], "uring"),
            (&["--header-timeout", "0"], "header-timeout"),
            (&["--config", "/nonexistent.toml"], "/nonexistent.toml"),
            (&["--data"], "--data"),
            (&["serve", "surplus"], "surplus"),
        ] {
            let error = serve(arguments).unwrap_err();
            assert!(error.contains(named) && !error.contains('\n'), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn files() {
        let args = file::parse_file(
            "data = \"x\"\nlisten = [\"127.0.0.1:1\", \"unix:/s\"]\nadmin = \"off\"\nio = \"uring\"\n",
        );
        let config = args.and_then(ServeArgs::check).unwrap();
        assert_eq!((config.listen.len(), config.admin, config.io), (2, Admin::Off, IoChoice::Uring));
        let one = file::parse_file("listen = \"127.0.0.1:1\"").unwrap();
        let flag = ServeArgs { workers: Some(3), ..ServeArgs::default() };
        let both = flag.over(one);
        assert_eq!((both.workers, both.listen.len()), (Some(3), 1));
        for (text, named) in [
            ("lisen = 1", "\"listen\""),
            ("\nkeep-alive-timeout = 5", "keep_alive_timeout"),
            ("workers = \"two\"", "line 1"),
            ("data = 5\n", "line 1"),
            ("\n\nlisten = \"nowhere\"", "line 3"),
            ("broken", "line 1"),
            ("[rules]", "no key \"rules\""),
            ("[quotes]\nprefx = \"a\"", "line 2: there is no key \"prefx\"; the nearest is \"prefix\""),
            ("[quotes]\ncharset = \"big5\"", "line 2"),
            ("[quotes]\nprefix = \"var\"", "quotes.prefix"),
            ("[quotes]\nmaxage = 61", "quotes.maxage_cap"),
            ("[quotes]\nsnapshot = \"/s\"", "quotes.socket"),
        ] {
            let error = file::parse_file(text).and_then(ServeArgs::check).map(|_| ()).unwrap_err();
            assert!(error.contains(named) && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
