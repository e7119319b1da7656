//! What was typed, checked: after [`Options::parse`] no usage error is possible.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Parser;

use crate::{names::Symbols, quote::Form};

#[derive(Debug, Parser)]
#[command(
    name = "ticker",
    version,
    about = "Makes up a market and lets it walk: into a .quotes file, into cloudia's socket, or to standard output",
    long_about = "Makes up a market and lets it walk: into a .quotes file, into cloudia's socket, or to standard output.\n\nThe same \
                  seed and flags give the same bytes. Companies are invented, prices walk within a tenth of the previous close, \
                  and the market has a calendar of its own, so that it is open at any hour.",
    after_help = "A file is written under a hidden name beside it and renamed. The socket gets symbol=payload lines, the \
                  whole market first, then what changes; a blank line ends a batch. So does standard output.\n\nExit status: 0 \
                  done, 1 it cannot go on, 2 usage.\n\nExamples:\n  ticker --once --symbols 50 --file data/a.quotes\n  ticker \
                  --from data/market.quotes --file data/market.quotes --share 30\n  ticker --socket /run/cloudia.sock --rate \
                  10000"
)]
struct Cli {
    /// So many instruments [default: 5000]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "from")]
    symbols: Option<u32>,

    /// What a quote holds [default: full]
    #[arg(long, value_enum, conflicts_with = "from")]
    form: Option<Form>,

    /// Walk from this table: its symbols, names and prices instead of invented ones
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Seconds from one tick to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    every: f64,

    /// Percent of the instruments that change in a tick
    #[arg(long, value_name = "PERCENT", default_value_t = 100.0)]
    share: f64,

    /// End after so many ticks; the first is the whole market
    #[arg(long, value_name = "N", conflicts_with = "once")]
    ticks: Option<u64>,

    /// Write the market once and end; a socket is not tried again
    #[arg(long)]
    once: bool,

    /// Another seed, another market
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Updates a second, in batches spread evenly, instead of ticks
    #[arg(long, value_name = "UPDATES", conflicts_with_all = ["every", "share", "file"])]
    rate: Option<f64>,

    /// Updates in a batch [default: all of a tick; with --rate a hundredth of it]
    #[arg(long, value_name = "N", conflicts_with = "file")]
    batch: Option<usize>,

    /// Write a .quotes table
    #[arg(short, long, value_name = "PATH", conflicts_with = "socket")]
    file: Option<PathBuf>,

    /// Rewrite the file as it lies instead of renaming a new one onto it
    #[arg(long, requires = "file")]
    in_place: bool,

    /// Feed a Unix socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Where the market comes from.
#[derive(Debug)]
pub enum Source {
    Invented { symbols: u32, form: Form },
    Table(PathBuf),
}

/// Where it goes.
#[derive(Debug)]
pub enum Target {
    Stdout,
    Socket(PathBuf),
    File { path: PathBuf, in_place: bool },
}

/// How fast it goes.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// In ticks of so many seconds, each changing so many percent of the instruments, in batches of at most so many.
    Ticks { every: f64, share: f64, batch: usize },
    /// So many updates a second, in batches of so many.
    Rate { updates: f64, batch: usize },
}

/// The pace of a market: what happens how often.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    pub every: Duration,
    /// Instruments that change each time.
    pub count: usize,
    /// Updates in a batch at most. At least 1.
    pub batch: usize,
}

impl Pace {
    /// For a market of so many instruments, at least one.
    pub fn of(self, instruments: usize) -> Rhythm {
        match self {
            Pace::Ticks { every, share, batch } => {
                let count = (instruments as f64 * share / 100.0).round() as usize;
                Rhythm { every: Duration::from_secs_f64(every), count, batch }
            }
            Pace::Rate { updates, batch } => {
                let count = batch.min(instruments);
                let every = (count as f64 / updates).min(MOST_SECONDS);
                Rhythm { every: Duration::from_secs_f64(every), count, batch }
            }
        }
    }
}

/// What to do, checked.
#[derive(Debug)]
pub struct Options {
    pub source: Source,
    pub target: Target,
    pub pace: Pace,
    /// How often something is written; None: until it ends by force.
    pub ticks: Option<u64>,
    /// A socket that goes is waited for.
    pub is_patient: bool,
    pub seed: u64,
}

/// Why nothing is done.
#[derive(Debug)]
pub enum Misuse {
    /// It was asked for help or the version.
    Help(clap::Error),
    /// One line with the remedy.
    Fault(String),
}

/// Longer than any demo, and far from the ends of `Duration`.
const MOST_SECONDS: f64 = 86_400.0;
/// What no socket takes.
const MOST_UPDATES: f64 = 1e8;

impl Options {
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Misuse> {
        let cli = Cli::try_parse_from(arguments).map_err(misuse)?;
        cli.check().map_err(|fault| Misuse::Fault(format!("{fault} (ticker --help tells more)")))
    }
}

impl Cli {
    fn check(self) -> Result<Options, String> {
        let symbols = self.symbols.unwrap_or(5000);
        if !(1..=Symbols::MOST).contains(&symbols) {
            return Err(format!("--symbols is {symbols}, it must be from 1 to {}", Symbols::MOST));
        }
        if !(self.every > 0.0 && self.every <= MOST_SECONDS) {
            return Err(format!("--every is {}, it must be above 0 and at most a day", self.every));
        }
        if !(0.0..=100.0).contains(&self.share) {
            return Err(format!("--share is {}, it must be from 0 to 100", self.share));
        }
        if self.batch == Some(0) {
            return Err("--batch is 0, it must be at least 1".to_owned());
        }
        if self.ticks == Some(0) {
            return Err("--ticks is 0, it must be at least 1".to_owned());
        }
        let pace = match self.rate {
            None => Pace::Ticks { every: self.every, share: self.share, batch: self.batch.unwrap_or(usize::MAX) },
            Some(updates) if updates > 0.0 && updates <= MOST_UPDATES => {
                Pace::Rate { updates, batch: self.batch.unwrap_or((updates / 100.0).ceil() as usize) }
            }
            Some(rate) => return Err(format!("--rate is {rate}, it must be above 0 and at most {MOST_UPDATES}")),
        };
        let form = self.form.unwrap_or(Form::Full);
        Ok(Options {
            source: self.from.map_or(Source::Invented { symbols, form }, Source::Table),
            target: match (self.file, self.socket) {
                (Some(path), _) => Target::File { path, in_place: self.in_place },
                (None, Some(path)) => Target::Socket(path),
                (None, None) => Target::Stdout,
            },
            pace,
            is_patient: !self.once,
            ticks: if self.once { Some(1) } else { self.ticks },
            seed: self.seed,
        })
    }
}

/// A usage error in one line: what clap says first, and its tip.
fn misuse(error: clap::Error) -> Misuse {
    if !error.use_stderr() {
        return Misuse::Help(error);
    }
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    let line = said.join(" ").replace("tip: ", "; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    Misuse::Fault(format!("{line} (ticker --help tells more)"))
}
