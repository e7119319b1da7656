//! Which names are published, and as what. Pure.

use std::path::{Component, Path};

/// What a file is to the path it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The content itself.
    Plain,
    /// `.mz`: the content compressed, with or without the plain file beside it.
    Mz,
    /// `.gz`, beside its file only.
    Gz,
    /// `.br`, beside its file only.
    Br,
    /// `.zst`, beside its file only.
    Zst,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 5] = [Role::Plain, Role::Mz, Role::Gz, Role::Br, Role::Zst];

    /// What the name has behind that of the content.
    pub const fn suffix(self) -> &'static str {
        match self {
            Role::Plain => "",
            Role::Mz => ".mz",
            Role::Gz => ".gz",
            Role::Br => ".br",
            Role::Zst => ".zst",
        }
    }
}

/// `name` split into the content's name and the role its ending would give it.
pub fn split(name: &str) -> (&str, Role) {
    let compressed = Role::ALL[1..].iter().find_map(|role| {
        let base = name.strip_suffix(role.suffix())?;
        (!base.is_empty() && !base.ends_with('/')).then_some((base, *role))
    });
    compressed.unwrap_or((name, Role::Plain))
}

/// Why a name is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unpublished {
    /// It is hidden, temporary or a table: that is how it is meant.
    Meant,
    /// No request can name it.
    Unspeakable,
}

/// The end of a table's name.
const TABLE: &str = ".quotes";

/// Whether a path is that of a table of quotes, which is never sent as it is.
pub fn is_table(path: &str) -> bool {
    path.ends_with(TABLE)
}

/// Checks a path relative to the data directory, name by name. A trailing `.mz` and the like is part of the last name. The
/// last name may be that of a table.
///
/// # Errors
/// Why it is not published.
pub fn check(relative: &Path) -> Result<&str, Unpublished> {
    let path = relative.to_str().ok_or(Unpublished::Unspeakable)?;
    let mut components = relative.components().enumerate().peekable();
    while let Some((depth, component)) = components.next() {
        let Component::Normal(name) = component else {
            return Err(Unpublished::Unspeakable);
        };
        let name = name.to_str().ok_or(Unpublished::Unspeakable)?;
        if name.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(Unpublished::Unspeakable);
        }
        let is_well_known = depth == 0 && name == ".well-known";
        let is_table = components.peek().is_none() && is_table_name(name);
        if !(is_well_known || is_table || is_publishable(name)) {
            return Err(Unpublished::Meant);
        }
    }
    Ok(path)
}

/// Whether one name is that of a table, and not hidden.
pub fn is_table_name(name: &str) -> bool {
    is_table(name) && !name.starts_with('.')
}

/// Whether one name, of a file or a directory, is neither hidden nor temporary nor a table.
pub fn is_publishable(name: &str) -> bool {
    let base = name.strip_suffix(Role::Mz.suffix()).unwrap_or(name);
    [name, base].iter().all(|name| {
        let is_temporary = [".tmp", ".swp", ".part", TABLE, "~"].iter().any(|end| name.ends_with(end));
        let is_autosave = name.len() > 1 && name.starts_with('#') && name.ends_with('#');
        !(name.is_empty() || name.starts_with('.') || is_temporary || is_autosave)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        for (name, expected) in [
            ("a.js", ("a.js", Role::Plain)),
            ("a.js.mz", ("a.js", Role::Mz)),
            ("d/a.js.gz", ("d/a.js", Role::Gz)),
            ("a.tar.gz", ("a.tar", Role::Gz)),
            ("d/.gz", ("d/.gz", Role::Plain)),
            ("a.br", ("a", Role::Br)),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
    }

    #[test]
    fn published_and_not() {
        for name in ["q.quotes", "d/q.a.quotes"] {
            assert!(check(Path::new(name)).is_ok() && is_table(name), "{name}");
            assert!(!is_publishable(name), "{name}");
        }
        for name in ["a.js", "d/e/a.js.mz", ".well-known/acme/x", "#x", "x#", "a.tmpl", "绵.js", "a b"] {
            assert!(check(Path::new(name)).is_ok(), "{name}");
        }
        for name in [
            ".a",
            "d/.a",
            ".git/x",
            "d/.well-known/x",
            "a~",
            "a.tmp",
            "a.swp",
            "a.part",
            "#a#",
            ".q.quotes",
            ".quotes",
            "d.quotes/a",
            "q.quotes~",
            "a.tmp.mz",
            "q.quotes.mz",
            "d~/a",
            ".mz",
        ] {
            assert_eq!(check(Path::new(name)), Err(Unpublished::Meant), "{name}");
        }
        assert_eq!(check(Path::new("a\nb")), Err(Unpublished::Unspeakable));
        assert_eq!(check(Path::new("../a")), Err(Unpublished::Unspeakable));
    }
}
