//! The server: arguments → configuration → run. The one place that knows exit codes: 0 done, 1 not good or cut short, 2 usage.

use std::{io::Write, process::ExitCode};

use cloudia::{
    check,
    config::{ConfigError, OneLine, Task, Visible},
    run,
};

fn main() -> ExitCode {
    let task = match Task::parse(std::env::args_os()) {
        Ok(task) => task,
        Err(ConfigError::Usage(help)) if !help.use_stderr() => {
            // Whoever closed the pipe has read enough.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(ConfigError::Usage(error)) => return fail(&OneLine(&error), 2),
        Err(error @ ConfigError::Value(_)) => return fail(&error, 2),
        Err(error @ ConfigError::Checked(_)) => return fail(&error, 1),
    };
    match task {
        Task::Check { config, data } => match check::check(config.as_deref(), data.as_deref()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error, 1),
        },
        Task::Serve(config) => match run::run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ run::Error::Start(_)) => fail(&error, 2),
            Err(error @ run::Error::Broken(_)) => fail(&error, 1),
        },
    }
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "cloudia: {}", Visible(error));
    ExitCode::from(code)
}
