//! What to do with a file, by its bytes and those of its `.mz`. Pure.

use cloudia::{
    feed::codec::{Corrupt, open_mz},
    mz::{self, Effort},
};

/// What to do with a file that is to have a `.mz`.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its `.mz` is there and good.
    Current,
    /// This is to become its `.mz`.
    Make(Vec<u8>),
    /// It does not get smaller. `stale`: the `.mz` that is there is of other content.
    NoSmaller { stale: bool },
}

/// What a `.mz` is to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds exactly the file's bytes.
    Current,
    /// There is none.
    Missing,
    /// It holds other bytes.
    Stale,
    /// It holds nothing, for this reason.
    Corrupt(Corrupt),
}

/// What `mz` is to `content`.
pub fn standing(content: &[u8], mz: Option<&[u8]>) -> Standing {
    match mz.map(open_mz) {
        None => Standing::Missing,
        Some(Err(corrupt)) => Standing::Corrupt(corrupt),
        Some(Ok(opened)) if opened.content == content => Standing::Current,
        Some(Ok(_)) => Standing::Stale,
    }
}

/// Decides on a file with this `content` whose `.mz` is `old`. `force`: what is there is not good enough.
///
/// A `.mz` is left alone if it holds exactly the content and was made here with at least this effort. One that somebody
/// else made is replaced by a smaller one only.
///
/// # Errors
/// What went wrong, in words that go behind the file's name.
pub fn compress(content: &[u8], old: Option<&[u8]>, effort: Effort, force: bool) -> Result<Verdict, String> {
    let standing = standing(content, old);
    let good = old.filter(|_| standing == Standing::Current && !force);
    if good.is_some_and(|old| mz::effort(old) >= Some(effort)) {
        return Ok(Verdict::Current);
    }
    let made = pack(content, effort)?;
    if made.len() >= content.len() {
        return Ok(Verdict::NoSmaller { stale: !matches!(standing, Standing::Current | Standing::Missing) });
    }
    if good.is_some_and(|old| old.len() <= made.len()) {
        return Ok(Verdict::Current);
    }
    Ok(Verdict::Make(made))
}

/// Makes a `.mz` and opens it again, as the server will.
///
/// # Errors
/// As [`compress`].
pub fn pack(content: &[u8], effort: Effort) -> Result<Vec<u8>, String> {
    let made = mz::pack(content, effort).map_err(|error| error.to_string())?;
    match open_mz(&made) {
        Ok(opened) if opened.content == content => Ok(made),
        Ok(_) => {
            Err("was compressed wrongly: it inflates to other bytes (please report this, with the file)".to_owned())
        }
        Err(error) => Err(format!("was compressed wrongly: it {error} (please report this, with the file)")),
    }
}
