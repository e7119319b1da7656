//! What feeders have sent, kept in a file, so that a restart serves it at once.
//!
//! The file is a table. It is written whole, put on disk and renamed; the one before it stays until then.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    board::{Board, Refused, SharedBoard, When},
    table::Table,
};
use crate::{limits::MAX_FED, store::quotes::Symbol};

/// How often the file is written, if there is anything new.
const EVERY: Duration = Duration::from_secs(5);

/// A file that what feeders send is kept in.
pub struct Snapshot {
    path: PathBuf,
    board: SharedBoard,
    /// The state of the board that is in the file.
    kept: u64,
    /// The last attempt failed, and it was said.
    told: bool,
}

impl Snapshot {
    /// Takes in what the file at `path` holds, if there is one.
    ///
    /// # Errors
    /// When there is one that cannot be read, or for which there is no room.
    pub fn load(path: PathBuf, board: SharedBoard) -> io::Result<Self> {
        match read(&path) {
            Ok(table) => {
                if table.skipped() > 0 {
                    tracing::warn!("{}: lines that are no quotes are skipped: {}", path.display(), table.skipped());
                }
                // To go on without them would be to write the next snapshot over them.
                take_in(&board, &table).map_err(io::Error::other)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let kept = board.lock().updates();
        Ok(Self { path, board, kept, told: false })
    }

    /// As [`Snapshot::save`], for the last time: a failure is said again, since now something is lost.
    pub fn save_at_the_end(&mut self) {
        self.told = false;
        self.save();
    }

    /// Writes the file if there is anything new. A failure is said once; the file stays as it was.
    pub fn save(&mut self) {
        let board = self.board.lock();
        if board.updates() == self.kept {
            return;
        }
        let (updates, text) = (board.updates(), fed(&board));
        drop(board);
        match write(&self.path, &text) {
            Ok(()) => (self.kept, self.told) = (updates, false),
            Err(error) if !std::mem::replace(&mut self.told, true) => {
                tracing::error!(
                    "the snapshot {} cannot be written: {error}; the last one stays. If its directory was made anew, start the server anew: \
                     it may write to the one that was there alone",
                    self.path.display()
                );
            }
            Err(_) => {}
        }
    }

    /// How long to wait between two calls of [`Snapshot::save`].
    pub const fn period() -> Duration {
        EVERY
    }
}

/// What feeders have sent, as a table.
pub fn fed(board: &Board) -> Vec<u8> {
    text(board.live())
}

/// Takes in what feeders have sent to another server, or to this one in an earlier life.
///
/// # Errors
/// When there is no room for it.
pub fn take_in(board: &SharedBoard, table: &Table) -> Result<(), Refused> {
    let batch = table.quotes().map(|(symbol, payload)| (*symbol, Box::from(payload))).collect();
    // What was sent after the table was written is gone, so that whoever has that must be told.
    board.lock().update(batch, When::Now)
}

fn read(path: &Path) -> io::Result<Table> {
    // No server has written it if it is larger than all that feeders may have sent.
    if std::fs::metadata(path)?.len() > MAX_FED {
        return Err(io::Error::other(format!("it is larger than {MAX_FED} bytes")));
    }
    Ok(Table::parse(std::fs::read(path)?.into()))
}

/// Payloads as a table. A payload never holds an LF; a CR at its end is told from the line's by that one.
fn text<'q>(quotes: impl IntoIterator<Item = (Symbol, &'q str)>) -> Vec<u8> {
    let mut text = Vec::new();
    for (symbol, payload) in quotes {
        let end: &[u8] = if payload.ends_with('\r') { b"\r\n" } else { b"\n" };
        [symbol.as_bytes(), b"=", payload.as_bytes(), end].iter().for_each(|part| text.extend_from_slice(part));
    }
    text
}

/// Finds out whether a snapshot can be written to `path`, without writing one.
///
/// # Errors
/// When it cannot.
pub fn try_to_write(path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".try");
    // Another server may be writing the snapshot at this moment.
    let trial = path.with_file_name(name);
    File::create(&trial)?;
    std::fs::remove_file(&trial)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let aside = path.with_file_name(name);
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| std::fs::rename(&aside, path));
    if renamed.is_err() {
        // A disk that is full needs the room.
        let _ = std::fs::remove_file(&aside);
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_back_as_they_were() {
        let quotes = [("a", ""), ("b", "x\r"), ("c.d", "1,\0=#\u{7f}\u{2028}"), ("d", "# y ")];
        let quotes = quotes.map(|(symbol, payload)| (Symbol::new(symbol.as_bytes()).unwrap(), payload));
        let table = Table::parse(text(quotes).into());
        assert_eq!((table.len(), table.skipped()), (quotes.len(), 0));
        for (symbol, payload) in quotes {
            assert_eq!(table.payload(&symbol), Some(payload));
        }
    }
}
