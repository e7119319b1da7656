//! The table in a file: a reader finds the one before or the one after, whole.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// A file that is written again and again.
#[derive(Debug)]
pub struct Table {
    path: PathBuf,
    /// None: it is rewritten as it lies.
    aside: Option<PathBuf>,
}

impl Table {
    /// # Errors
    /// Where the path names no file.
    pub fn new(path: &Path, in_place: bool) -> io::Result<Table> {
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(ErrorKind::IsADirectory.into());
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".ticker");
        let aside = path.with_file_name(hidden);
        // What a killed run left. Of two that write one file the other fails, and neither makes a mixture.
        if let Err(error) = fs::remove_file(&aside)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        Ok(Table { path: path.to_owned(), aside: (!in_place).then_some(aside) })
    }

    /// # Errors
    /// Where the directory is gone, full or not ours, or where another process writes the same file.
    pub fn write(&self, table: &str) -> io::Result<()> {
        let Some(aside) = &self.aside else {
            return File::create(&self.path)?.write_all(table.as_bytes());
        };
        let mut file = File::create_new(aside)?;
        // Closed before it is renamed: the server waits for whoever has a file open for writing.
        let written = file.write_all(table.as_bytes());
        drop(file);
        let renamed = written.and_then(|()| fs::rename(aside, &self.path));
        if renamed.is_err() {
            fs::remove_file(aside).ok();
        }
        renamed
    }
}
