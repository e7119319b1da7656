//! Standard input to standard output, or to the one file that was named.

use std::{path::Path, sync::Arc};

use cloudia::{
    feed::codec::{Opened, open_mz},
    limits::MAX_FILE,
    mz::{self, Effort},
};

use crate::{
    args::{Mode, Options, Output},
    files, judge,
    report::{self, Outcome, Report, What},
    stop::Temps,
};

/// Does it. True: it went well.
pub fn run(options: &Options) -> bool {
    let name = Path::new("standard input");
    match piped(options) {
        Ok(None) => true,
        Ok(Some(outcome)) => {
            let mut report = Report::new(options, 0);
            report.tell(Outcome { path: name.to_owned(), ..outcome });
            report.end()
        }
        Err(reason) => report::fail(name, reason),
    }
}

/// None: the data is all there is to say.
fn piped(options: &Options) -> Result<Option<Outcome>, String> {
    let temps = Temps::guarded().map_err(|error| files::explain("signals cannot be caught", &error))?;
    let bytes = files::read_stdin()?;
    let open = || open_mz(&bytes).map_err(|corrupt| corrupt.to_string());
    let good =
        |opened: &Opened, note| Outcome::new(Path::new(""), What::Good, note).sized(bytes.len(), opened.content.len());
    let (what, made) = match options.mode {
        Mode::Compress(effort) => (What::Made, pack(&bytes, effort)?),
        Mode::Restore => (What::Restored, open()?.content),
        Mode::List => return Ok(Some(good(&open()?, mz::effort(&bytes).map_or("other", Effort::name)))),
        Mode::Test | Mode::Check(_) | Mode::Prune => return Ok(Some(good(&open()?, ""))),
    };
    match &options.output {
        _ if options.dry_run => {}
        Output::File(path) => put(&temps, path, &made)?,
        _ => files::write_stdout(&made)?,
    }
    let is_worth_a_word = matches!(options.output, Output::File(_)) || options.dry_run;
    Ok(is_worth_a_word.then(|| Outcome::new(Path::new(""), what, "").sized(bytes.len(), made.len())))
}

fn pack(content: &[u8], effort: Effort) -> Result<Vec<u8>, String> {
    if content.len() as u64 > MAX_FILE {
        return Err(files::TOO_LARGE.to_owned());
    }
    judge::pack(content, effort)
}

fn put(temps: &Arc<Temps>, path: &Path, bytes: &[u8]) -> Result<(), String> {
    let written =
        files::write(temps, path, bytes, None).and_then(|()| files::sync_directory(files::directory_of(path)));
    written.map_err(|reason| format!("{} {reason}", report::shown(path)))
}
