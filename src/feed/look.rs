//! A look at one path's files: what is to be served under it now.
//!
//! It changes nothing, so that many paths can be looked at side by side.

use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    build::{self, Built, Parts, Verdict},
    codec::Effort,
    load::{self, Absent, Failure, Fingerprint, Found, Mark, Place, Rewrite, Trust, Unread},
    media::Types,
    names::{self, Role},
    quotes::table::Table,
    scan::Listing,
};
use crate::{stats::Refusal, store::Entry};

/// The state of a path's files, by [`Role`].
pub type Seen = [Option<Fingerprint>; Role::ALL.len()];

/// What is known of a path.
#[derive(Default)]
pub struct Known {
    /// The version that is served.
    pub version: Option<Version>,
    /// The files as they were when they were last looked at.
    pub seen: Mark,
    /// A `.mz` that did not hold the content beside it: it becomes none until it is rewritten.
    pub disowned: Option<Rewrite>,
}

/// What a content is to its readers, under a stamp that is not yet its own.
pub enum Made {
    /// A path that is served.
    Entry(Box<Entry>),
    /// A table of quotes.
    Table(Arc<Table>),
}

/// What a content is to its readers.
#[derive(Clone)]
pub enum Version {
    /// A path that is served.
    Entry(Arc<Entry>),
    /// A table of quotes.
    Table(Arc<Table>),
}

impl Made {
    /// A hash of the content.
    pub fn hash(&self) -> u64 {
        match self {
            Made::Entry(entry) => entry.hash(),
            Made::Table(table) => table.hash(),
        }
    }

    /// Bytes that it takes.
    pub fn held_bytes(&self) -> usize {
        match self {
            Made::Entry(entry) => entry.held_bytes(),
            Made::Table(table) => table.held_bytes(),
        }
    }

    /// Under its own stamp. Tables have none: their symbols do.
    pub fn stamped(self, stamp: u64) -> Version {
        match self {
            Made::Entry(entry) => Version::Entry(Arc::new(entry.stamped(stamp))),
            Made::Table(table) => Version::Table(table),
        }
    }
}

impl Version {
    /// What is served under the path.
    pub fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Version::Entry(entry) => Some(entry),
            Version::Table(_) => None,
        }
    }

    /// A hash of the content.
    pub fn hash(&self) -> u64 {
        match self {
            Version::Entry(entry) => entry.hash(),
            Version::Table(table) => table.hash(),
        }
    }

    /// The stamp; 0 where there is none.
    pub fn stamp(&self) -> u64 {
        self.entry().map_or(0, |entry| entry.stamp())
    }

    /// Bytes of the content.
    pub fn content_len(&self) -> usize {
        match self {
            Version::Entry(entry) => entry.identity_len(),
            Version::Table(table) => table.text_len(),
        }
    }

    /// Bytes that it takes.
    pub fn held_bytes(&self) -> usize {
        match self {
            Version::Entry(entry) => entry.held_bytes(),
            Version::Table(table) => table.held_bytes(),
        }
    }
}

/// A new version, before it has a stamp.
pub struct Fresh {
    /// The path that it is for.
    pub content: String,
    /// The version.
    pub made: Made,
    /// The time of its file, in seconds since 1970.
    pub modified: u64,
    /// Its compression was made in a hurry.
    pub is_improvable: bool,
    /// See [`Known::seen`].
    pub seen: Mark,
    /// See [`Known::disowned`].
    pub disowned: Option<Rewrite>,
}

/// A file that somebody is writing.
#[derive(Clone, Copy)]
pub struct Writing {
    /// When it was last seen to change.
    pub since: Instant,
    /// As it was then, if that is known.
    pub state: Option<Mark>,
    /// It was made, or perhaps closed, and nothing more is known: it may be whole.
    pub is_new: bool,
}

/// How to look.
pub struct Look<'a> {
    /// The data directory's real path.
    pub root: &'a Path,
    /// The media types.
    pub types: &'a Types,
    /// Files that somebody is writing, relative to the root.
    pub writing: &'a HashMap<PathBuf, Writing>,
    /// How hard to compress.
    pub effort: Effort,
    /// Read the files although nothing about them seems to have changed.
    pub force: bool,
    /// Files that are read although somebody has them open: they have been still for long.
    pub still: &'a HashSet<PathBuf>,
    /// Believe a file that has become empty.
    pub believe_empty: bool,
    /// It can be heard whether somebody was writing: see [`Sight::doubted`].
    pub hears: bool,
    /// The files that there are, where that is known: most contents have none of four sidecars.
    pub listing: Option<&'a Listing>,
}

/// What was seen.
pub struct Sight {
    /// What follows from it.
    pub outcome: Outcome,
    /// The files as they are; what is not believed counts as seen, too.
    pub seen: Seen,
    /// See [`Known::disowned`].
    pub disowned: Option<Rewrite>,
    /// One of the files was reached through a link.
    pub linked: bool,
    /// Device and inode of a file that has other names besides this one.
    pub shared: Option<(u64, u64)>,
    /// Files that were read without knowing whether somebody was writing them, relative to the root.
    pub doubted: Vec<PathBuf>,
    /// What was refused: the file, its state, why, and in words.
    pub refused: Vec<Refused>,
}

/// A file that is not believed.
pub struct Refused {
    /// Relative to the root.
    pub path: PathBuf,
    /// Its state, where it has one.
    pub fingerprint: Option<Fingerprint>,
    /// Why.
    pub refusal: Refusal,
    /// Why, in words that follow the file's name.
    pub reason: String,
}

/// What follows from a look.
pub enum Outcome {
    /// Everything is as it was, or the last good version is kept.
    Keep,
    /// This version is new.
    Publish {
        /// The version.
        made: Made,
        /// The time of its file, in seconds since 1970.
        modified: u64,
        /// Its compression was made in a hurry.
        is_improvable: bool,
    },
    /// There is no content any more.
    Gone,
    /// Somebody is writing this file; it is to be looked at when they close it.
    Busy(PathBuf),
    /// It cannot be said yet whether somebody is writing; soon it can.
    Soon,
    /// The system did not let it be seen. Whether it may the next time.
    Failed {
        /// It may.
        passes: bool,
    },
    /// The content is empty, which it was not: it may be about to be written.
    Empty,
}

impl Look<'_> {
    /// Looks at the files of `content`, a path relative to the root. A panic, which would end the feed for good, costs
    /// that path only.
    pub fn at(&self, content: &str, known: Option<&Known>, place: &mut Place) -> Sight {
        let mut sight = Sight {
            outcome: Outcome::Keep,
            seen: Seen::default(),
            disowned: known.and_then(|known| known.disowned),
            linked: false,
            shared: None,
            doubted: Vec::new(),
            refused: Vec::new(),
        };
        if names::check(Path::new(content)).is_err() {
            sight.outcome = Outcome::Gone;
            return sight;
        }
        let look =
            AssertUnwindSafe(|| self.outcome(content, known, place, &mut sight).unwrap_or_else(|outcome| outcome));
        sight.outcome = catch_unwind(look).unwrap_or_else(|_| {
            let reason = "makes the program fail, a defect to report; its last good version is kept".to_owned();
            sight.refuse(content, Role::Plain, Refusal::Corrupt, reason);
            Outcome::Keep
        });
        sight
    }

    /// The early ways out are errors, so that the whole story is one read from top to bottom.
    fn outcome(
        &self,
        content: &str,
        known: Option<&Known>,
        place: &mut Place,
        sight: &mut Sight,
    ) -> Result<Outcome, Outcome> {
        if self.is_hidden_sidecar(content, place) {
            return Err(Outcome::Gone);
        }
        let mut files: [Option<Found>; 5] = Default::default();
        let is_table = names::is_table(content);
        // A table has no sidecars.
        for role in if is_table { &[Role::Plain][..] } else { &Role::ALL } {
            let role = *role;
            let has_plain = files[Role::Plain as usize].is_some();
            files[role as usize] = self.find(content, role, has_plain, place, sight)?;
        }
        let has_plain = files[Role::Plain as usize].is_some();
        let mz = &mut files[Role::Mz as usize];
        if !has_plain {
            mz.take_if(|found| Some(found.fingerprint.rewrite()) == sight.disowned);
            if mz.is_none() {
                return Err(Outcome::Gone);
            }
        }
        sight.seen = std::array::from_fn(|role| files[role].as_ref().map(|found| found.fingerprint));
        sight.linked = files.iter().flatten().any(|found| found.linked);
        sight.shared = files.iter().flatten().find_map(|found| found.shared);
        if !self.force && known.is_some_and(|known| known.seen == Mark::of(&sight.seen)) {
            return Err(Outcome::Keep);
        }

        let mut parts = Parts::default();
        let mut modified = 0;
        for role in Role::ALL {
            let is_content = role == Role::Plain || (role == Role::Mz && !has_plain);
            let Some(found) = &files[role as usize] else {
                continue;
            };
            let Some(bytes) = self.read(content, role, found, is_content, sight)? else {
                continue;
            };
            if is_content {
                modified = sight.seen[role as usize].map_or(0, |fingerprint| fingerprint.modified_secs());
                let was_filled =
                    known.and_then(|known| known.version.as_ref()).is_some_and(|version| version.content_len() > 0);
                if bytes.is_empty() && was_filled && !self.believe_empty {
                    return Err(Outcome::Empty);
                }
            }
            match role {
                Role::Plain => parts.plain = Some(bytes),
                Role::Mz => parts.mz = Some(bytes),
                Role::Gz => parts.gz = Some(bytes),
                Role::Br => parts.br = Some(bytes),
                Role::Zst => parts.zst = Some(bytes),
            }
        }
        if is_table {
            return Self::publish_table(parts.plain.unwrap_or_default(), modified, known);
        }
        self.publish(content, parts, modified, known, sight)
    }

    fn publish_table(text: Vec<u8>, modified: u64, known: Option<&Known>) -> Result<Outcome, Outcome> {
        let table = Table::parse(text.into());
        match known.and_then(|known| known.version.as_ref()) {
            Some(Version::Table(held)) if held.hash() == table.hash() => Ok(Outcome::Keep),
            _ => Ok(Outcome::Publish { made: Made::Table(Arc::new(table)), modified, is_improvable: false }),
        }
    }

    fn publish(
        &self,
        content: &str,
        parts: Parts,
        modified: u64,
        known: Option<&Known>,
        sight: &mut Sight,
    ) -> Result<Outcome, Outcome> {
        let has_plain = parts.plain.is_some();
        let held = known.and_then(|known| known.version.as_ref()).and_then(Version::entry);
        // A body taken over from a sidecar that is gone would outlive it.
        let reusable =
            held.filter(|_| Mark::of(&sight.seen).is_bare() && known.is_some_and(|known| known.seen.is_bare()));
        let built = build::bodies(parts, reusable.map(|entry| &**entry), self.effort);
        let Built { bodies, verdicts, is_improvable } = match built {
            Ok(built) => built,
            Err(corrupt) => {
                sight.refuse(content, Role::Mz, Refusal::Corrupt, corrupt.to_string());
                return Err(Outcome::Keep);
            }
        };
        for (role, verdict) in
            [(Role::Mz, verdicts.mz), (Role::Gz, verdicts.gz), (Role::Br, verdicts.br), (Role::Zst, verdicts.zst)]
        {
            match verdict {
                None | Some(Verdict::Used) => {}
                Some(Verdict::Corrupt(corrupt)) => {
                    sight.refuse(content, role, Refusal::Corrupt, format!("{corrupt}; it is ignored"));
                }
                Some(Verdict::Stale | Verdict::Mismatch) => {
                    let reason =
                        format!("does not hold the bytes of {content}; it is ignored until one of them changes");
                    sight.refuse(content, role, Refusal::Stale, reason);
                }
            }
        }
        if has_plain {
            let disowned = verdicts.mz.is_some_and(|verdict| verdict != Verdict::Used);
            let mz = sight.seen[Role::Mz as usize].filter(|_| disowned);
            sight.disowned = mz.map(|fingerprint| fingerprint.rewrite());
        }
        let entry = Entry::new(self.types.of(content), modified, bodies).compact();
        match held {
            Some(held) if held.is_same(&entry) => Ok(Outcome::Keep),
            _ => Ok(Outcome::Publish { made: Made::Entry(Box::new(entry)), modified, is_improvable }),
        }
    }

    /// `today.js.gz` is hidden while there is a `today.js` or a `today.js.mz`, published or not.
    fn is_hidden_sidecar(&self, content: &str, place: &mut Place) -> bool {
        let (base, role) = names::split(content);
        match role {
            Role::Plain => false,
            Role::Mz => true,
            Role::Gz | Role::Br | Role::Zst => [Role::Plain, Role::Mz]
                .iter()
                .any(|role| load::find(self.root, Path::new(&format!("{base}{}", role.suffix())), place).is_ok()),
        }
    }

    fn find(
        &self,
        content: &str,
        role: Role,
        has_plain: bool,
        place: &mut Place,
        sight: &mut Sight,
    ) -> Result<Option<Found>, Outcome> {
        let path = format!("{content}{}", role.suffix());
        if role != Role::Plain && self.listing.is_some_and(|listing| !listing.may_have(&path)) {
            return Ok(None);
        }
        let path = PathBuf::from(path);
        let found = match load::find(self.root, &path, place) {
            Ok(found) => found,
            Err(Absent::Missing) => return Ok(None),
            Err(Absent::Failed(failure)) => return sight.fail(content, role, role == Role::Plain, failure),
            Err(Absent::Refused(refusal, reason)) => {
                sight.refuse(content, role, refusal, reason);
                return match (role, refusal) {
                    // Whatever was there is gone, and what is there now is not to be had.
                    (Role::Plain, Refusal::Link) => Err(Outcome::Gone),
                    // What the content is cannot be said without this file.
                    (Role::Plain, _) => Err(Outcome::Keep),
                    _ => Ok(None),
                };
            }
        };
        let writing = self.writing.get(&path).filter(|_| !self.still.contains(&path));
        let is_written = writing.is_some_and(|writing| !writing.is_new);
        match role {
            Role::Plain if is_written => Err(Outcome::Busy(path)),
            Role::Mz if is_written && !has_plain => Err(Outcome::Busy(path)),
            _ => Ok(Some(found).filter(|_| !is_written)),
        }
    }

    fn read(
        &self,
        content: &str,
        role: Role,
        found: &Found,
        is_content: bool,
        sight: &mut Sight,
    ) -> Result<Option<Vec<u8>>, Outcome> {
        let path = PathBuf::from(format!("{content}{}", role.suffix()));
        let trust = match self.writing.contains_key(&path) {
            _ if self.still.contains(&path) => Trust::Still,
            true => Trust::Told,
            false => Trust::Usual,
        };
        match (load::read(found, trust), is_content) {
            (Ok(loaded), _) => {
                sight.seen[role as usize] = Some(loaded.fingerprint);
                if self.hears && !loaded.is_sure {
                    // Events come under the real name.
                    sight.doubted.push(found.path.strip_prefix(self.root).unwrap_or(&found.path).to_owned());
                }
                Ok(Some(loaded.bytes))
            }
            // The events of its writer come under its real name, not under the link's.
            (Err(Unread::Busy), true) if found.linked => Err(Outcome::Soon),
            (Err(Unread::Busy), true) => Err(Outcome::Busy(path)),
            (Err(Unread::Young), _) => Err(Outcome::Soon),
            (Err(Unread::Missing), true) => Err(Outcome::Gone),
            (Err(Unread::Failed(failure)), is_content) => sight.fail(content, role, is_content, failure),
            (Err(Unread::Refused(refusal, reason)), is_content) => {
                sight.refuse(content, role, refusal, reason);
                if is_content { Err(Outcome::Keep) } else { Ok(None) }
            }
            (Err(Unread::Busy | Unread::Missing), false) => {
                // Not as it was seen, so that the next look reads it.
                sight.seen[role as usize] = None;
                Ok(None)
            }
        }
    }
}

impl Sight {
    /// Tells of a failure. Where the content itself cannot be read, nothing more can be said of it.
    fn fail<T>(&mut self, content: &str, role: Role, is_content: bool, failure: Failure) -> Result<Option<T>, Outcome> {
        self.refuse(content, role, Refusal::Unreadable, failure.reason);
        self.seen[role as usize] = None;
        if is_content { Err(Outcome::Failed { passes: failure.passes }) } else { Ok(None) }
    }

    fn refuse(&mut self, content: &str, role: Role, refusal: Refusal, reason: String) {
        self.refused.push(Refused {
            path: format!("{content}{}", role.suffix()).into(),
            fingerprint: self.seen[role as usize],
            refusal,
            reason,
        });
    }
}
