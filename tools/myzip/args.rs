//! What was typed, checked: after [`Options::parse`] no usage error is possible.

use std::{
    ffi::OsString,
    io::{IsTerminal, stdin, stdout},
    path::PathBuf,
};

use clap::Parser;
use cloudia::mz::Effort;

#[derive(Debug, Parser)]
#[command(
    name = "myzip",
    version,
    about = "Compresses files ahead of time to the NAME.mz that cloudia serves as it is",
    long_about = "Compresses files ahead of time to the NAME.mz that cloudia serves as it is.\n\nA .mz is deflate in a gzip \
                  frame: zcat and every language read it. The same content gives the same bytes; the time of the file is \
                  copied onto its .mz. What is there already and right is left alone, what would not get smaller is \
                  skipped.",
    after_help = "Without PATH, or with -, it works from standard input to standard output.\n\nWith -r, names that cloudia \
                  does not publish (hidden, ending in ~ .tmp .swp .part .quotes) and what is compressed already are passed \
                  over. A link to a file inside the directory gets a .mz beside the link; links out of it and to \
                  directories are not followed. A PATH that is itself a link is followed.\n\nExit status: 0 done, 1 some \
                  files failed (the others are done), 2 usage, 130 after Ctrl-C.\n\nExamples:\n  myzip -r data               \
                  make or renew the .mz of every file\n  myzip -r --best data        the same with zopfli: the smallest, \
                  takes long\n  myzip -r --check data       fail if one is missing or stale\n  myzip -r --prune -n data    list \
                  the .mz whose file is gone; without -n remove them\n  produce | myzip -o today.js.mz"
)]
struct Cli {
    /// Files, with -r directories
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// Take directories too, with everything below them
    #[arg(short, long)]
    recursive: bool,

    /// Write to this file, or below this directory; - is standard output
    #[arg(short, long, value_name = "OUT", conflicts_with_all = ["test", "list", "prune"])]
    output: Option<PathBuf>,

    /// Less effort: five times as fast, 2 to 13 % larger
    #[arg(long, conflicts_with = "best")]
    fast: bool,

    /// Most effort: zopfli, twenty times slower, half a percent smaller
    #[arg(long)]
    best: bool,

    /// Restore NAME from NAME.mz, which stays
    #[arg(short = 'd', long, visible_alias = "decompress", group = "mode")]
    restore: bool,

    /// Test whether each .mz is whole and would be published
    #[arg(short, long, group = "mode")]
    test: bool,

    /// List each .mz with its sizes and ratio
    #[arg(short, long, group = "mode")]
    list: bool,

    /// Fail if a file's .mz is missing or stale; write nothing
    #[arg(long, group = "mode")]
    check: bool,

    /// Remove each .mz, made by myzip, whose file is gone. Not where a .mz alone is content!
    #[arg(long, group = "mode")]
    prune: bool,

    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Make anew what is there and right, restore over what differs, prune what others made, write to a terminal
    #[arg(short, long)]
    force: bool,

    /// Report as JSON on standard output
    #[arg(long)]
    json: bool,

    /// So many files at once [default: one a core]
    #[arg(short, long, value_name = "N")]
    jobs: Option<usize>,

    /// Say nothing but what failed
    #[arg(short, long, conflicts_with_all = ["verbose", "json", "list"])]
    quiet: bool,

    /// Name the unchanged as well
    #[arg(short, long)]
    verbose: bool,
}

/// What is to be done with each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Make its `.mz`.
    Compress(Effort),
    /// Make it from its `.mz`.
    Restore,
    /// Open it.
    Test,
    /// Open it and say how large it is.
    List,
    /// See whether its `.mz` is there and right. The effort decides what would get smaller.
    Check(Effort),
    /// Remove it if its file is gone.
    Prune,
}

impl Mode {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Compress(_) => "compress",
            Mode::Restore => "restore",
            Mode::Test => "test",
            Mode::List => "list",
            Mode::Check(_) => "check",
            Mode::Prune => "prune",
        }
    }
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Pipe,
    /// Files.
    Paths,
}

/// Where they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Beside each file; for a pipe standard output.
    Beside,
    /// Standard output.
    Stdout,
    /// One file.
    File(PathBuf),
    /// Below a directory.
    Directory(PathBuf),
}

/// What to do, checked.
#[derive(Debug)]
pub struct Options {
    pub mode: Mode,
    pub input: Input,
    pub paths: Vec<PathBuf>,
    pub recursive: bool,
    pub output: Output,
    pub dry_run: bool,
    pub force: bool,
    pub json: bool,
    /// At least one.
    pub jobs: usize,
    pub quiet: bool,
    pub verbose: bool,
}

/// Why nothing is done.
#[derive(Debug)]
pub enum Misuse {
    /// It was asked for help or the version.
    Help(clap::Error),
    /// One line with the remedy.
    Fault(String),
}

impl Options {
    /// Reads the command line. Looks only at what kind of thing `-o` and the standard streams are.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Misuse> {
        let cli = Cli::try_parse_from(arguments).map_err(misuse)?;
        cli.check().map_err(|fault| Misuse::Fault(format!("{fault} (myzip --help tells more)")))
    }
}

impl Cli {
    fn check(self) -> Result<Options, String> {
        let mode = self.mode();
        let input = self.input(mode)?;
        let output = self.output(input)?;
        let jobs = match self.jobs {
            Some(0) => return Err("--jobs is 0, it must be at least 1".to_owned()),
            Some(jobs) => jobs,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let to_stdout = output == Output::Stdout || (input == Input::Pipe && output == Output::Beside);
        let writes = matches!(mode, Mode::Compress(_) | Mode::Restore);
        if output == Output::Stdout && !writes {
            return Err("-o - is for what is compressed or restored".to_owned());
        }
        if self.json && to_stdout && writes {
            return Err("--json and the data would both go to standard output: name a file with -o".to_owned());
        }
        if to_stdout && matches!(mode, Mode::Compress(_)) && !self.force && stdout().is_terminal() {
            return Err("compressed data is not written to a terminal: redirect it, or name a file with -o".to_owned());
        }
        Ok(Options {
            mode,
            input,
            recursive: self.recursive,
            output,
            dry_run: self.dry_run,
            force: self.force,
            json: self.json,
            jobs,
            quiet: self.quiet,
            verbose: self.verbose,
            paths: self.paths,
        })
    }

    fn mode(&self) -> Mode {
        let effort = match (self.fast, self.best) {
            (true, _) => Effort::Fast,
            (_, true) => Effort::Best,
            _ => Effort::Default,
        };
        match () {
            () if self.restore => Mode::Restore,
            () if self.test => Mode::Test,
            () if self.list => Mode::List,
            () if self.check => Mode::Check(effort),
            () if self.prune => Mode::Prune,
            () => Mode::Compress(effort),
        }
    }

    fn input(&self, mode: Mode) -> Result<Input, String> {
        let dashes = self.paths.iter().filter(|path| path.as_os_str() == "-").count();
        let input = match (self.paths.len(), dashes) {
            (0, _) | (1, 1) => Input::Pipe,
            (_, 0) => Input::Paths,
            _ => return Err("- stands for standard input and cannot be mixed with files".to_owned()),
        };
        if input == Input::Pipe {
            if matches!(mode, Mode::Check(_) | Mode::Prune) || self.recursive {
                return Err(format!(
                    "what is to be worked on? {} needs a PATH",
                    if self.recursive { "-r" } else { "it" }
                ));
            }
            if self.paths.is_empty() && stdin().is_terminal() {
                return Err("what is to be compressed? Name files, or pipe data into it".to_owned());
            }
        }
        Ok(input)
    }

    fn output(&self, input: Input) -> Result<Output, String> {
        let Some(path) = self.output.clone() else {
            return Ok(Output::Beside);
        };
        let is_one = self.paths.len() <= 1 && !self.recursive;
        let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        match () {
            () if path.as_os_str().is_empty() => Err("-o is empty: name a file or a directory".to_owned()),
            () if path.as_os_str() == "-" && is_one => Ok(Output::Stdout),
            () if path.as_os_str() == "-" => Err("-o - takes one file".to_owned()),
            () if input == Input::Pipe && (path.is_dir() || ends_in_slash) => {
                Err(format!("-o {} is a directory, and standard input has no name: name a file", path.display()))
            }
            () if path.is_dir() || ends_in_slash => Ok(Output::Directory(path)),
            () if is_one => Ok(Output::File(path)),
            () if path.exists() => Err(format!("-o {} is a file, several inputs need a directory", path.display())),
            () => Ok(Output::Directory(path)),
        }
    }
}

/// A usage error in one line: what clap says first, and its tip.
fn misuse(error: clap::Error) -> Misuse {
    if !error.use_stderr() {
        return Misuse::Help(error);
    }
    let text = error.to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    let line = said.join(" ").replace("tip: ", "; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    Misuse::Fault(format!("{line} (myzip --help tells more)"))
}
