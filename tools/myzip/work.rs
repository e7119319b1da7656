//! The jobs of a plan, each on a thread, told in order.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use cloudia::{
    feed::codec::open_mz,
    feed::names::Role,
    mz::{self, Effort},
};

use crate::{
    args::{Mode, Options, Output},
    files::{self, Content, explain},
    judge::{self, Standing, Verdict},
    plan::{Job, Plan, is_gone},
    report::{self, Outcome, Report, What},
    stop::{self, Temps},
};

/// How often a file that is written meanwhile is taken up again.
const TRIES: usize = 3;

/// Does everything. True: nothing failed.
pub fn run(options: &Options) -> bool {
    let temps = match Temps::guarded() {
        Ok(temps) => temps,
        Err(error) => return report::fail("signals".as_ref(), explain("cannot be caught", &error)),
    };
    let plan = Plan::of(options);
    let worker = Worker { options, temps: &temps };
    if options.output == Output::Stdout {
        return worker.to_stdout(&plan);
    }
    let writes = !options.dry_run && matches!(options.mode, Mode::Compress(_) | Mode::Restore);
    if writes {
        plan.directories().iter().for_each(|directory| stop::clean(directory));
    }
    let mut report = Report::new(options, plan.jobs.iter().map(|job| job.size).sum());
    plan.settled.iter().for_each(|outcome| report.tell(outcome.clone()));
    worker.all(&plan.jobs, &mut report);
    if writes || (options.mode == Mode::Prune && !options.dry_run) {
        for directory in plan.directories() {
            if let Err(reason) = files::sync_directory(&directory) {
                report.tell(Outcome::new(&directory, What::Failed, reason));
            }
        }
    }
    report.end()
}

/// What every job needs.
struct Worker<'w> {
    options: &'w Options,
    temps: &'w Temps,
}

impl Worker<'_> {
    /// Each job to the next free thread; told in the order of the plan, so that two runs read the same.
    fn all(&self, jobs: &[Job], report: &mut Report<'_>) {
        let next = AtomicUsize::new(0);
        let (done, outcomes) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.options.jobs.min(jobs.len()) {
                let (done, next) = (done.clone(), &next);
                scope.spawn(move || {
                    while let Some((at, job)) = take(jobs, next) {
                        // Nobody hears it any more only if the receiver has panicked.
                        let _ = done.send((at, job.size, self.one(job)));
                    }
                });
            }
            drop(done);
            let (mut waiting, mut told) = (BTreeMap::new(), 0);
            loop {
                match outcomes.recv_timeout(TICK) {
                    Ok((at, size, outcome)) => {
                        report.advance(size);
                        waiting.insert(at, outcome);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                report.tick();
                while let Some(outcome) = waiting.remove(&told) {
                    report.tell(outcome);
                    told += 1;
                }
            }
        });
    }

    fn one(&self, job: &Job) -> Outcome {
        let result = match self.options.mode {
            Mode::Compress(effort) => self.compress(job, effort),
            Mode::Restore => self.restore(job),
            Mode::Test => open(job),
            Mode::List => list(job),
            Mode::Check(effort) => check(job, effort),
            Mode::Prune => self.prune(job),
        };
        result.unwrap_or_else(|reason| Outcome::new(&job.source, What::Failed, reason))
    }

    fn compress(&self, job: &Job, effort: Effort) -> Result<Outcome, String> {
        let outcome = |what, note: &str| Outcome::new(&job.source, what, note);
        for _ in 0..TRIES {
            let Content { bytes, meta } = files::read(&job.source)?;
            if bytes.is_empty() {
                return Ok(outcome(What::Skipped, if self.drop_stale(job)? { EMPTY_NOW } else { "is empty" }));
            }
            // What cannot be read is as good as wrong, and is replaced.
            let old = files::read_if_there(&job.target).unwrap_or_else(|_| Some(nothing(&meta)));
            let verdict = judge::compress(&bytes, old.as_ref().map(|old| &old.bytes[..]), effort, self.options.force)?;
            if !files::is_unchanged(&job.source, &meta) {
                continue;
            }
            return match (verdict, old) {
                (Verdict::Make(mz), _) => {
                    self.write(job, &mz, &meta)?;
                    Ok(outcome(What::Made, "").sized(bytes.len(), mz.len()))
                }
                (Verdict::Current, Some(old)) => {
                    self.same_time(job, &old, &meta)?;
                    Ok(outcome(What::Unchanged, "").sized(bytes.len(), old.bytes.len()))
                }
                (Verdict::NoSmaller { stale: true }, _) if self.drop_stale(job)? => {
                    Ok(outcome(What::Skipped, "does not get smaller; its stale .mz is removed"))
                }
                (Verdict::NoSmaller { .. } | Verdict::Current, _) => Ok(outcome(What::Skipped, "does not get smaller")),
            };
        }
        Err(files::BUSY.to_owned())
    }

    fn write(&self, job: &Job, bytes: &[u8], like: &fs::Metadata) -> Result<(), String> {
        if self.options.dry_run {
            return Ok(());
        }
        if matches!(self.options.output, Output::Directory(_)) {
            let directory = files::directory_of(&job.target);
            let made = fs::create_dir_all(directory);
            made.map_err(|error| explain(&format!("{} cannot be made", report::shown(directory)), &error))?;
        }
        let written = files::write(self.temps, &job.target, bytes, Some(like));
        written.map_err(|reason| format!("{} {reason}", report::shown(&job.target)))
    }

    /// The time of the file onto its `.mz` that is right already.
    fn same_time(&self, job: &Job, old: &Content, like: &fs::Metadata) -> Result<(), String> {
        let is_same = old.meta.modified().ok() == like.modified().ok();
        if is_same || self.options.dry_run || files::copy_time(&job.target, like) {
            return Ok(());
        }
        self.write(job, &old.bytes, like)
    }

    /// A `.mz` of other content is worthless, and would become content itself if the file went. Whether one was there. A
    /// file that was named with `-o` may be anything and is not touched.
    fn drop_stale(&self, job: &Job) -> Result<bool, String> {
        if matches!(self.options.output, Output::File(_)) || is_gone(&job.target) {
            return Ok(false);
        }
        if self.options.dry_run {
            return Ok(true);
        }
        let removed = fs::remove_file(&job.target);
        let what = || format!("its stale {} cannot be removed", report::shown(&job.target));
        removed.map(|()| true).map_err(|error| explain(&what(), &error))
    }

    fn restore(&self, job: &Job) -> Result<Outcome, String> {
        let Content { bytes, meta } = files::read(&job.source)?;
        let opened = open_mz(&bytes).map_err(|corrupt| corrupt.to_string())?;
        let outcome = |what| Outcome::new(&job.source, what, "").sized(bytes.len(), opened.content.len());
        match files::read_if_there(&job.target) {
            Ok(Some(there)) if there.bytes == opened.content => return Ok(outcome(What::Unchanged)),
            Ok(None) => {}
            Ok(Some(_)) | Err(_) if self.options.force => {}
            Ok(Some(_)) => {
                let name = report::shown(&job.target);
                return Err(format!("{name} is there with other content: --force replaces it"));
            }
            Err(reason) => return Err(format!("{} {reason}", report::shown(&job.target))),
        }
        self.write(job, &opened.content, &meta)?;
        Ok(outcome(What::Restored))
    }

    fn prune(&self, job: &Job) -> Result<Outcome, String> {
        let outcome = |what, note: &str| Outcome::new(&job.source, what, note).sized(job.size as usize, 0);
        if !is_gone(&job.source.with_extension("")) {
            return Ok(Outcome::new(&job.source, What::Skipped, "its file is there"));
        }
        let is_own = || files::read(&job.source).is_ok_and(|mz| mz::effort(&mz.bytes).is_some());
        if !self.options.force && !is_own() {
            let note = "was not made by myzip, so it may be content of its own; --force removes it";
            return Ok(Outcome::new(&job.source, What::Skipped, note));
        }
        if !self.options.dry_run {
            fs::remove_file(&job.source).map_err(|error| explain("cannot be removed", &error))?;
        }
        Ok(outcome(What::Removed, "its file is gone"))
    }

    /// One file to standard output, which holds the data and nothing else.
    fn to_stdout(&self, plan: &Plan) -> bool {
        if let Some(outcome) = plan.settled.first() {
            return report::fail(&outcome.path, outcome.note.clone());
        }
        plan.jobs.iter().all(|job| {
            let result = files::read(&job.source).and_then(|content| match self.options.mode {
                Mode::Compress(effort) => judge::pack(&content.bytes, effort),
                _ => open_mz(&content.bytes).map(|opened| opened.content).map_err(|corrupt| corrupt.to_string()),
            });
            let written =
                result.and_then(|bytes| if self.options.dry_run { Ok(()) } else { files::write_stdout(&bytes) });
            written.map_or_else(|reason| report::fail(&job.source, reason), |()| true)
        })
    }
}

/// What is said of an empty file that had a `.mz`.
const EMPTY_NOW: &str = "is empty; its stale .mz is removed";
/// How often the progress bar is looked after.
const TICK: Duration = Duration::from_millis(100);

fn take<'j>(jobs: &'j [Job], next: &AtomicUsize) -> Option<(usize, &'j Job)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, jobs.get(at)?))
}

fn nothing(meta: &fs::Metadata) -> Content {
    Content { bytes: Vec::new(), meta: meta.clone() }
}

fn open(job: &Job) -> Result<Outcome, String> {
    let mz = files::read(&job.source)?.bytes;
    let opened = open_mz(&mz).map_err(|corrupt| corrupt.to_string())?;
    Ok(Outcome::new(&job.source, What::Good, "").sized(mz.len(), opened.content.len()))
}

fn list(job: &Job) -> Result<Outcome, String> {
    let mz = files::read(&job.source)?.bytes;
    let opened = open_mz(&mz).map_err(|corrupt| corrupt.to_string())?;
    let effort = mz::effort(&mz).map_or("other", Effort::name);
    Ok(Outcome::new(&job.source, What::Good, effort).sized(mz.len(), opened.content.len()))
}

/// Whether a run would leave everything as it is, but for the effort.
fn check(job: &Job, effort: Effort) -> Result<Outcome, String> {
    let content = files::read(&job.source)?.bytes;
    let mz = files::read_if_there(&job.target).map_err(|reason| format!("{} {reason}", report::shown(&job.target)))?;
    let mz = mz.as_ref().map(|mz| &mz.bytes[..]);
    let ending = Role::Mz.suffix();
    match judge::standing(&content, mz) {
        Standing::Current => {
            Ok(Outcome::new(&job.source, What::Unchanged, "").sized(content.len(), mz.map_or(0, <[u8]>::len)))
        }
        Standing::Stale => Err(format!("its {ending} is stale: it holds other content; run myzip")),
        Standing::Corrupt(corrupt) => Err(format!("its {ending} {corrupt}; run myzip")),
        Standing::Missing if content.is_empty() => Ok(Outcome::new(&job.source, What::Skipped, "is empty")),
        Standing::Missing => match judge::compress(&content, None, effort, false)? {
            Verdict::NoSmaller { .. } => Ok(Outcome::new(&job.source, What::Skipped, "does not get smaller")),
            _ => Err(format!("its {ending} is missing; run myzip")),
        },
    }
}
