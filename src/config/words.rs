//! How errors are written: in one line, in which nothing is obeyed by a terminal.

use std::fmt;

/// Text for a terminal or a log: control characters, which it might obey, are escaped.
pub struct Visible<T>(pub T);

impl<T: fmt::Display> fmt::Display for Visible<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_string().chars().try_for_each(|character| match character.is_control() {
            true => write!(f, "{}", character.escape_default()),
            false => write!(f, "{character}"),
        })
    }
}

/// A usage error in one line: what clap says first, and its tip.
pub struct OneLine<'e>(pub &'e clap::Error);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        write!(f, "{}", Visible(first.strip_prefix("error: ").unwrap_or(first)))?;
        for line in lines.take_while(|line| !line.starts_with("Usage:")) {
            match line.strip_prefix("tip: ") {
                Some(tip) => write!(f, "; {}", Visible(tip))?,
                None if line.starts_with('[') || line.starts_with("--") => write!(f, " {}", Visible(line))?,
                None => {}
            }
        }
        f.write_str(" (cloudia --help tells more)")
    }
}
