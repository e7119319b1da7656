//! The names below a directory that may be published.

use std::{
    collections::{BTreeSet, HashSet},
    fs::FileType,
    hash::{BuildHasherDefault, Hasher},
    io,
    path::{Path, PathBuf},
};

use super::{
    load,
    names::{self, Role, Unpublished},
};
use crate::{
    limits::{MAX_DEPTH, MAX_LINKS},
    stats::Refusal,
};

/// Why a name is refused, in words.
pub const UNSPEAKABLE: &str = "has a name that no URL can hold (not UTF-8, or a control character in it)";

/// What a walk has found.
#[derive(Default)]
pub struct Scan {
    /// Paths of contents, relative to the root: a `.mz` counts as the content that it holds.
    pub contents: BTreeSet<String>,
    /// The names of all files, sidecars too.
    files: Listing,
    /// Some names could not be had.
    is_partial: bool,
    /// There are symbolic links: what is seen under one name can change under another.
    pub links: bool,
    /// What was passed over, and why.
    pub refused: Vec<(PathBuf, Refusal, String)>,
    /// Links to directories on the way to where the walk is.
    links_on_the_way: usize,
    /// It was said that there are more of them than are followed.
    told_of_links: bool,
}

/// The names of files, as a set of hashes: a name that is not there may seem to be, one that is there never seems not to be.
#[derive(Default)]
pub struct Listing {
    hashes: HashSet<u64, BuildHasherDefault<Hashed>>,
    hasher: ahash::RandomState,
}

impl Listing {
    fn note(&mut self, path: &str) {
        self.hashes.insert(self.hasher.hash_one(path));
    }

    /// A file of this name may have been there.
    pub fn may_have(&self, path: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(path))
    }
}

/// Takes a hash as it is.
#[derive(Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Walks `start`, relative to `root`, which must be a real path.
///
/// # Errors
/// When `start` itself cannot be read. A directory below it that cannot is passed over.
pub fn scan(root: &Path, start: &Path) -> io::Result<Scan> {
    let mut scan = Scan::default();
    scan.directory(root, start, &mut Vec::new())?;
    Ok(scan)
}

impl Scan {
    /// The names of all files, if they could be had. It is taken out.
    pub fn listing(&mut self) -> Option<Listing> {
        let files = std::mem::take(&mut self.files);
        Some(files).filter(|_| !self.is_partial && self.refused.is_empty())
    }

    /// Leaves out the sidecars that are hidden beside their content; where there are links that has to be looked at.
    pub fn leave_out_hidden(&mut self) {
        let is_hidden = |content: &String| {
            let (base, role) = names::split(content);
            role != Role::Plain && self.contents.contains(base)
        };
        if !self.links {
            let hidden: HashSet<String> = self.contents.iter().filter(|content| is_hidden(content)).cloned().collect();
            self.contents.retain(|content| !hidden.contains(content));
        }
    }

    /// `above`: the real places of the directories on the way here, to see a link that leads back.
    fn directory(&mut self, root: &Path, relative: &Path, above: &mut Vec<PathBuf>) -> io::Result<()> {
        let real = root.join(relative).canonicalize()?;
        if above.contains(&real) && self.links_on_the_way > 1 {
            // Behind another link it is nothing new.
            return Ok(());
        }
        if above.contains(&real) || above.len() >= MAX_DEPTH {
            let reason = "is a link that leads back to a directory above it, or too deep".to_owned();
            self.refused.push((relative.to_owned(), Refusal::Link, reason));
            return Ok(());
        }
        let entries = std::fs::read_dir(&real)?;
        above.push(real);
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.file_type()?, entry))) {
                Ok((kind, entry)) => self.name(root, &relative.join(entry.file_name()), kind, above),
                Err(_) => self.is_partial = true,
            }
        }
        above.pop();
        Ok(())
    }

    fn name(&mut self, root: &Path, relative: &Path, mut kind: FileType, above: &mut Vec<PathBuf>) {
        let path = match names::check(relative) {
            Ok(path) => path,
            Err(Unpublished::Meant) => return,
            Err(Unpublished::Unspeakable) => {
                self.refused.push((relative.to_owned(), Refusal::Name, UNSPEAKABLE.to_owned()));
                return;
            }
        };
        let is_link = kind.is_symlink();
        if is_link {
            let full = root.join(relative);
            self.links = true;
            // Links to files are judged when the file is looked at; a link to a directory must be before it is walked.
            match full.canonicalize().and_then(|real| Ok((real.symlink_metadata()?.file_type(), real))) {
                Ok((target, real)) if target.is_dir() && !load::is_published_place(root, &real) => {
                    let reason = "is a link out of the data directory or to a name that is never published".to_owned();
                    self.refused.push((relative.to_owned(), Refusal::Link, reason));
                    return;
                }
                Ok((target, _)) => kind = target,
                Err(_) => return,
            }
        }
        if kind.is_dir() {
            // Directories with links to each other have more ways through them than anyone can walk.
            self.links_on_the_way += usize::from(is_link);
            if self.links_on_the_way > MAX_LINKS {
                if !std::mem::replace(&mut self.told_of_links, true) {
                    let reason =
                        format!("is a link behind {MAX_LINKS} others: no more are followed, here and elsewhere");
                    self.refused.push((relative.to_owned(), Refusal::Link, reason));
                }
            } else if let Err(error) = self.directory(root, relative, above) {
                self.refused.push((relative.to_owned(), Refusal::Unreadable, format!("cannot be read: {error}")));
            }
            self.links_on_the_way -= usize::from(is_link);
        } else if kind.is_file() {
            self.files.note(path);
            let (content, role) = names::split(path);
            let content = if role == Role::Mz { content } else { path };
            self.contents.insert(content.to_owned());
        }
    }
}
