//! The names below a directory that may be published.

use std::{
    collections::BTreeSet,
    fs::FileType,
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
    /// There are symbolic links: what is seen under one name can change under another.
    pub links: bool,
    /// What was passed over, and why.
    pub refused: Vec<(PathBuf, Refusal, String)>,
    /// Links to directories on the way to where the walk is.
    links_on_the_way: usize,
    /// It was said that there are more of them than are followed.
    told_of_links: bool,
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
        for entry in entries.flatten() {
            if let Ok(kind) = entry.file_type() {
                self.name(root, &relative.join(entry.file_name()), kind, above);
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
            let (content, role) = names::split(path);
            let content = if role == Role::Mz { content } else { path };
            self.contents.insert(content.to_owned());
        }
    }
}
