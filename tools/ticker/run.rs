//! The walk: a market, its rhythm, and where it goes.

use std::{
    fs,
    io::{self, ErrorKind, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    args::{Options, Source, Target},
    file::Table,
    market::Market,
    socket::{Feeder, Sent, tell},
    table,
};

/// Ticks that are later than this are not made up for.
const LATE: Duration = Duration::from_secs(1);

/// Walks until the ticks are over, or for ever.
///
/// # Errors
/// One line: why it cannot begin or go on.
pub fn run(options: &Options) -> Result<(), String> {
    let mut market = market(options)?;
    let rhythm = options.pace.of(market.walking());
    let mut sink = Sink::open(&options.target, options.is_patient).map_err(|error| at(&options.target, &error))?;
    let mut due = Instant::now();
    let mut written = sink.whole(&market, rhythm.batch);
    let mut ticks = 1;
    while options.ticks.is_none_or(|most| ticks < most) && written.is_ok() {
        due += rhythm.every;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if due.elapsed() > LATE {
            due = Instant::now();
        }
        let micros = u64::try_from(rhythm.every.as_micros()).unwrap_or(u64::MAX);
        let changed = market.tick(micros, rhythm.count).to_vec();
        written = sink.changes(&market, &changed, rhythm.batch);
        ticks += 1;
    }
    sink.finish();
    match written {
        // Whoever closed the pipe has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe && matches!(options.target, Target::Stdout) => Ok(()),
        written => written.map_err(|error| at(&options.target, &error)),
    }
}

fn at(target: &Target, error: &io::Error) -> String {
    match target {
        Target::Stdout => format!("standard output: {error}"),
        Target::Socket(path) | Target::File { path, .. } => format!("{}: {error}", path.display()),
    }
}

fn market(options: &Options) -> Result<Market, String> {
    match &options.source {
        Source::Invented { symbols, form } => Ok(Market::invent(*symbols, *form, options.seed)),
        Source::Table(path) => read(path, options.seed),
    }
}

fn read(path: &Path, seed: u64) -> Result<Market, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (market, fixed) = table::read(&text, seed);
    if market.walking() == 0 {
        return Err(format!("{}: no quote of the full or the short form is in it", path.display()));
    }
    if let Some(first) = fixed.first() {
        let lines = fixed.len();
        tell(&format!(
            "{}: {lines} quotes of another form stay as they are, the first in line {first}",
            path.display()
        ));
    }
    Ok(market)
}

/// Where the market goes.
enum Sink {
    Stdout(io::Stdout),
    Socket(Feeder),
    File(Table),
}

impl Sink {
    fn open(target: &Target, is_patient: bool) -> io::Result<Sink> {
        Ok(match target {
            Target::Stdout => Sink::Stdout(io::stdout()),
            Target::Socket(path) => Sink::Socket(Feeder::connect(path, is_patient)?),
            Target::File { path, in_place } => Sink::File(Table::new(path, *in_place)?),
        })
    }

    /// All of it, for who knows nothing yet.
    fn whole(&mut self, market: &Market, batch: usize) -> io::Result<()> {
        match self {
            Sink::File(table) => table.write(&market.table()),
            // A server that goes meanwhile has forgotten the batches before.
            Sink::Socket(_) => {
                let lines: Vec<&str> = market.lines().collect();
                while self.batches(&lines, batch)? == Sent::Anew {}
                Ok(())
            }
            Sink::Stdout(_) => {
                let lines: Vec<&str> = market.lines().collect();
                self.batches(&lines, batch).map(drop)
            }
        }
    }

    /// What changed, for who knows the rest.
    fn changes(&mut self, market: &Market, changed: &[usize], batch: usize) -> io::Result<()> {
        if let Sink::File(table) = self {
            return table.write(&market.table());
        }
        let lines: Vec<&str> = changed.iter().map(|at| market.line(*at)).collect();
        match self.batches(&lines, batch)? {
            Sent::Well => Ok(()),
            Sent::Anew => self.whole(market, batch),
        }
    }

    /// Lines with a blank one after each batch. Each batch is one write.
    fn batches(&mut self, lines: &[&str], most: usize) -> io::Result<Sent> {
        for batch in lines.chunks(most) {
            let text = format!("{}\n", batch.concat());
            match self {
                Sink::Stdout(stdout) => {
                    stdout.write_all(text.as_bytes())?;
                    stdout.flush()?;
                }
                Sink::Socket(feeder) => {
                    if feeder.send(&text)? == Sent::Anew {
                        return Ok(Sent::Anew);
                    }
                }
                Sink::File(_) => {}
            }
        }
        Ok(Sent::Well)
    }

    fn finish(self) {
        if let Sink::Socket(feeder) = self {
            feeder.finish();
        }
    }
}
