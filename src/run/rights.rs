//! What the process may do, and gives up once its ports are bound: to be root, to have capabilities, to gain rights anew, to
//! write anywhere but where it was told to.
//!
//! Each thread has its rights for itself and those that it starts have them from it, so all of this is done by the first one
//! before there is a second.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use nix::unistd::{User, geteuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::{Error, sockets::Sockets, takeover};
use crate::{config::Config, listen::Address};

/// The rights that are left.
pub(super) struct Rights {
    user: String,
    is_root: bool,
    writes: Writes,
}

/// Where it may write.
enum Writes {
    /// Below these.
    Below(Vec<PathBuf>),
    /// Where the server that has started it could.
    Inherited,
    /// Wherever its user may: the kernel cannot hold it to less.
    Anywhere,
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_root {
            true => f.write_str("those of root, which --user NAME gives up once the ports are bound; ")?,
            false => write!(f, "those of the user {}, no capabilities; ", self.user)?,
        }
        match &self.writes {
            Writes::Below(places) if places.is_empty() => f.write_str("writes to no file"),
            Writes::Below(places) => {
                let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
                write!(f, "writes below {} alone", places.join(", "))
            }
            Writes::Inherited => f.write_str("writes where the server before it could"),
            Writes::Anywhere => f.write_str("writes wherever that may, since Landlock cannot be used"),
        }
    }
}

/// Whatever program this one starts has no more rights than this one.
pub(super) fn forbid_new_ones() {
    // It is there since Linux 3.5.
    let _ = rustix::thread::set_no_new_privs(true);
}

/// Gives up what is needed no longer.
///
/// # Errors
/// When the user is not there, or this process may not become it.
pub(super) fn give_up(config: &Config, sockets: &Sockets) -> Result<Rights, Error> {
    if let Some(user) = &config.user {
        become_user(user)?;
    }
    let is_root = geteuid().is_root();
    if !is_root {
        give_up_capabilities().map_err(|cause| {
            Error::Start(format!("capabilities cannot be given up: {cause}; start as root, or without any"))
        })?;
    }
    let user = User::from_uid(geteuid()).ok().flatten().map_or_else(|| geteuid().to_string(), |user| user.name);
    let writes = match confine(config, sockets) {
        Ok(Some(places)) => Writes::Below(places),
        Ok(None) => Writes::Anywhere,
        // The kernel takes sixteen sets of rules, one from each server of a row.
        Err(_) if is_successor() => Writes::Inherited,
        Err(error) => {
            tracing::warn!(
                "Landlock cannot be used, so that only its user's rights hold this process from writing: {error}"
            );
            Writes::Anywhere
        }
    };
    Ok(Rights { user, is_root, writes })
}

/// Another server has started this one, with no more rights than it had.
fn is_successor() -> bool {
    std::env::var_os(takeover::REPLACES).is_some()
}

/// What else may forbid what `error` tells of, with the remedy.
pub(super) fn bound(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_successor() => {
            "; a server that SIGUSR2 starts has no more rights than the one before it: for others start one with --take-over"
        }
        _ => "",
    }
}

fn become_user(name: &str) -> Result<(), Error> {
    let error = |reason: &str| Error::Start(format!("--user {name}: {reason}"));
    let user = User::from_name(name)
        .map_err(|cause| error(cause.desc()))?
        .ok_or_else(|| error("there is no such user; useradd --system makes one"))?;
    if user.uid == geteuid() {
        return Ok(());
    }
    // Also those that the start of another program might bring back. Where they are gone already, so much the better.
    for capability in CapabilitySet::all().iter() {
        let _ = rustix::thread::remove_capability_from_bounding_set(capability);
    }
    let group_name = std::ffi::CString::new(name).map_err(|_| error("there is no such user"))?;
    let dropped = nix::unistd::initgroups(&group_name, user.gid)
        .and_then(|()| nix::unistd::setgid(user.gid))
        .and_then(|()| nix::unistd::setuid(user.uid));
    dropped.map_err(|cause| error(&format!("{}; only root can become another user", cause.desc())))
}

fn give_up_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    // Where there is no ambient set there is nothing in it.
    let _ = rustix::thread::clear_ambient_capability_set();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// The last of Landlock's versions whose rules are made here; of an older kernel those that it knows.
const VERSION: ABI = ABI::V5;

/// Lets this process, and what it starts, write nowhere but where the snapshot and the names of Unix sockets are, and connect
/// to nobody by TCP. Where it may write; None: the kernel knows nothing of that.
fn confine(config: &Config, sockets: &Sockets) -> Result<Option<Vec<PathBuf>>, RulesetError> {
    let files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::RemoveFile;
    let names = AccessFs::MakeSock | AccessFs::RemoveFile;
    let snapshot = config.quotes.snapshot.iter().map(|path| (directory(path), files));
    let of_address = |address: &Address| match address {
        Address::Unix(path) => Some((directory(path), names)),
        Address::Tcp(_) => None,
    };
    let bound = sockets.all().filter_map(|bound| of_address(&bound.address));
    let unwanted = sockets.unwanted.iter().map(|path| (directory(path), names));
    let mut places: Vec<(PathBuf, BitFlags<AccessFs>)> = snapshot.chain(bound).chain(unwanted).collect();
    places.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));

    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let ruleset = ruleset.handle_access(AccessFs::from_write(VERSION))?.handle_access(AccessNet::ConnectTcp)?;
    let mut ruleset = ruleset.create()?;
    for (place, access) in &places {
        // One that is not there cannot be written to.
        if let Ok(opened) = PathFd::new(place) {
            ruleset = ruleset.add_rule(PathBeneath::new(opened, *access))?;
        }
    }
    let status = ruleset.restrict_self()?.ruleset;
    let mut places: Vec<_> = places.into_iter().map(|(place, _)| place).collect();
    places.dedup();
    Ok((status != RulesetStatus::NotEnforced).then_some(places))
}

/// Where a file's name is.
fn directory(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().unwrap_or(Path::new("/")).to_owned()
}
