//! Any arguments and any file of settings: they are understood, or refused in one line that names what is wrong.

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt, path::PathBuf, sync::OnceLock};

use cloudia::config::{Config, ConfigError, OneLine, Task, Visible};
use tempfile::TempDir;

/// Arguments, one a line; behind this byte the file.
const SEPARATOR: u8 = 0x1e;

pub(crate) fn check(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == SEPARATOR);
    let (arguments, text) = end.map_or((data, &b""[..]), |end| (&data[..end], &data[end + 1..]));
    let arguments: Vec<OsString> = arguments
        .split(|byte| *byte == b'\n')
        // No argument may name another file of this machine.
        .filter(|argument| !argument.is_empty() && !argument.starts_with(b"--config"))
        .map(|argument| OsString::from_vec(argument.to_vec()))
        .collect();
    let flags = parse(&arguments);

    let file = file();
    fs::write(&file, text).expect("a file to write to");
    let named: [OsString; 2] = ["--config".into(), file.clone().into()];
    let alone = parse(&[&["check".into()], &named[..]].concat());
    let served = parse(&named);
    assert_eq!(alone.is_ok(), served.is_ok(), "check and serve judge alike: {}", text.escape_ascii());
    if alone.is_err() {
        return;
    }
    // What is good alone may contradict what is typed, but not without a word. Behind `--` a flag is none.
    let is_serve = flags.as_ref().is_ok_and(Option::is_some) && !arguments.iter().any(|argument| argument == "--");
    if is_serve {
        let _ = parse(&[&arguments, &named[..]].concat());
    }
}

/// A file of this thread's own.
fn file() -> PathBuf {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| tempfile::tempdir().expect("a directory"));
    directory.path().join(format!("{:?}.toml", std::thread::current().id()))
}

/// The configuration to serve by, if that is what is asked for. What is refused is refused in one line that names something.
fn parse(arguments: &[OsString]) -> Result<Option<Config>, String> {
    let with_name = std::iter::once("cloudia".into()).chain(arguments.iter().cloned());
    let (said, help) = match Task::parse(with_name) {
        Ok(Task::Serve(config)) => {
            sound(&config);
            return Ok(Some(*config));
        }
        Ok(Task::Check { .. }) => return Ok(None),
        Err(ConfigError::Usage(error)) => (Visible(&OneLine(&error)).to_string(), !error.use_stderr()),
        Err(error) => (Visible(&error).to_string(), false),
    };
    if help {
        return Ok(None);
    }
    assert!(!said.chars().any(char::is_control), "{arguments:?}: {said:?}");
    let what = said.trim_end_matches(" (cloudia --help tells more)");
    let names =
        ["--", "line ", ".toml", "-timeout", "grace", "workers", "max-connections", "quotes.", "'", "is not UTF-8"];
    assert!(names.iter().any(|name| what.contains(name)), "{arguments:?}: {said:?}");
    Err(said)
}

/// What the rest of the program relies on.
fn sound(config: &Config) {
    for secs in [config.keep_alive_timeout, config.header_timeout, config.send_timeout] {
        assert!((1..=604_800).contains(&secs), "{config:?}");
    }
    assert!(config.grace <= 604_800, "{config:?}");
    assert!(config.workers.is_none_or(|workers| (1..=1024).contains(&workers)), "{config:?}");
    assert!(config.max_connections != Some(0) && config.max_connections_per_ip != Some(0), "{config:?}");
    let twice = (0..config.listen.len()).any(|at| config.listen[..at].contains(&config.listen[at]));
    assert!(!twice, "{config:?}");
}
