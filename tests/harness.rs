//! Hermetic surroundings for a test: a [`Site`] to serve, a [`Server`] that serves it, [`wait_until`] and
//! a seeded [`Rng`].
//!
//! A server listens on ports that the kernel picks, sees no configuration but the test's, and dies with
//! the test process, also when it sits in a `static`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use std::{env, io, process, thread};

use tempfile::TempDir;

pub(crate) use crate::basics::{Rng, seed};
use crate::cases;
pub(crate) use crate::conn::{Conn, Response};

/// How long anything may take before a test gives up. Only bounds how long a broken test hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The mtime that [`Site::file`] gives, in seconds: long over, so that it is sent as `Last-Modified`.
pub(crate) const OLD: u64 = 1_700_000_000;
/// [`OLD`] as an HTTP date.
pub(crate) const OLD_DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

/// Polls until `cond` holds.
///
/// # Panics
/// When [`PATIENCE`] runs out.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut cond: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !cond() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A time in whole seconds since 1970, as files carry it.
pub(crate) fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

/// The time now in whole seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A loopback address of this test run's own, and a port on it that is given out once: for a server whose
/// address must be known before it starts, or must be free again after it.
pub(crate) fn own_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let [_, _, high, low] = process::id().to_be_bytes();
    SocketAddr::from(([127, 79, high, low], PORT.fetch_add(1, Ordering::Relaxed)))
}

/// A data directory of its own, gone with the value, with room beside it for what must stay outside.
///
/// It always holds `alive.txt`, which [`Conn::assert_open`] asks for.
pub(crate) struct Site {
    outside: TempDir,
    data: PathBuf,
}

impl Site {
    pub(crate) fn new() -> Site {
        let outside =
            tempfile::Builder::new().prefix(&format!("site-{}-", process::id())).tempdir_in(scratch()).unwrap();
        let data = outside.path().join("data");
        fs::create_dir(&data).unwrap();
        let site = Site { outside, data };
        site.file("alive.txt", "alive\n");
        site
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The directory that holds the data directory; nothing in it is to be served.
    pub(crate) fn outside(&self) -> &Path {
        self.outside.path()
    }

    /// Writes a file that was last modified at [`OLD`], with the directories above it.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Site {
        let path = self.data.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.mtime(name, at(OLD))
    }

    pub(crate) fn mtime(&self, name: &str, time: SystemTime) -> &Site {
        let file = File::options().append(true).open(self.data.join(name)).unwrap();
        file.set_modified(time).unwrap();
        self
    }

    /// Puts a file in place in one step, as a careful uploader does: it never exists by halves or with
    /// another mtime.
    pub(crate) fn replace(&self, name: &str, bytes: impl AsRef<[u8]>, time: SystemTime) -> &Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let aside = format!(".upload-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        fs::write(self.data.join(&aside), bytes).unwrap();
        self.mtime(&aside, time);
        fs::rename(self.data.join(&aside), self.data.join(name)).unwrap();
        self
    }

    pub(crate) fn remove(&self, name: &str) -> &Site {
        fs::remove_file(self.data.join(name)).unwrap();
        self
    }

    pub(crate) fn link(&self, name: &str, target: impl AsRef<Path>) -> &Site {
        symlink(target, self.data.join(name)).unwrap();
        self
    }
}

/// Where sites live: below the target directory, cleared of what killed test runs left behind.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&root).unwrap();
        for left in fs::read_dir(&root).unwrap().flatten() {
            let name = left.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("site-").and_then(|n| n.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                fs::remove_dir_all(left.path()).ok();
            }
        }
        root
    })
}

/// A running cloudia. Killed when dropped; [`Server::stop`] asks it to end by itself.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    child: Child,
    out: Tap,
    err: Tap,
}

/// What a stream of the server has said so far.
type Tap = Arc<Mutex<String>>;

/// A server that has not said yet that it is ready.
pub(crate) struct Starting {
    pub(crate) server: Server,
    ready: Receiver<Urls>,
}

impl Starting {
    /// Waits until it is ready. Why it is not: it ended, or was silent for [`PATIENCE`].
    pub(crate) fn become_ready(mut self) -> Result<Server, String> {
        let urls = match self.ready.recv_timeout(PATIENCE) {
            Ok(urls) => urls,
            Err(why) => {
                self.server.child.kill().ok();
                self.server.child.wait().ok();
                return Err(format!("not ready ({why}): {}", self.server.stderr()));
            }
        };
        let find = |key| urls.iter().find(|(k, _)| k == key).map(|(_, addr)| *addr);
        // Where there are Unix sockets only, there is no address.
        self.server.addr = find("listen").unwrap_or(self.server.addr);
        self.server.admin = find("admin");
        Ok(self.server)
    }

    /// Whether it has said so already.
    pub(crate) fn is_ready(&self) -> bool {
        self.server.stdout().lines().any(|line| line.starts_with("ready"))
    }
}

/// A server that is about to start, see [`Server::builder`].
pub(crate) struct Launch {
    data: PathBuf,
    cwd: PathBuf,
    listen: String,
    admin: String,
    workers: u32,
    flags: Vec<String>,
    io: Option<String>,
    bare: bool,
    env: Vec<(String, String)>,
    under: Vec<String>,
    program: PathBuf,
}

/// How a program ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Launch {
    /// Leaves out all flags but those that [`Launch::flag`] and [`Launch::args`] add.
    pub(crate) fn bare(mut self) -> Launch {
        self.bare = true;
        self
    }

    /// Adds arguments as they are.
    pub(crate) fn args(mut self, args: &[&str]) -> Launch {
        self.flags.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: impl ToString) -> Launch {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it by way of another program.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Launch {
        self.under = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts this file instead of the cloudia that was built.
    pub(crate) fn program(mut self, program: impl Into<PathBuf>) -> Launch {
        self.program = program.into();
        self
    }

    /// Adds a flag with its value.
    pub(crate) fn flag(mut self, name: &str, value: impl ToString) -> Launch {
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// On this driver, whatever the others are on.
    pub(crate) fn io(mut self, driver: &str) -> Launch {
        self.io = Some(driver.to_owned());
        self
    }

    pub(crate) fn data(mut self, data: impl Into<PathBuf>) -> Launch {
        self.data = data.into();
        self
    }

    pub(crate) fn listen(mut self, addr: impl ToString) -> Launch {
        self.listen = addr.to_string();
        self
    }

    pub(crate) fn admin(mut self, addr: impl ToString) -> Launch {
        self.admin = addr.to_string();
        self
    }

    pub(crate) fn workers(mut self, workers: u32) -> Launch {
        self.workers = workers;
        self
    }

    /// Starts the server and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends or is silent for [`PATIENCE`] before that.
    pub(crate) fn start(self) -> Server {
        self.try_start().unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same, or why there is no server.
    pub(crate) fn try_start(self) -> Result<Server, String> {
        self.begin().become_ready()
    }

    /// Starts the server and does not wait for it.
    pub(crate) fn begin(self) -> Starting {
        let mut child = spawn(self.command()).expect("the server starts");
        let (ready_sent, ready) = mpsc::channel();
        let out = drain_stdout(child.stdout.take().unwrap(), ready_sent);
        let err = drain_stderr(child.stderr.take().unwrap());
        // It has no address before it says so.
        let server = Server { addr: SocketAddr::from(([0; 4], 0)), admin: None, child, out, err };
        Starting { server, ready }
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    /// When it has not ended after [`PATIENCE`].
    pub(crate) fn end(self) -> Ended {
        let mut child = spawn(self.command()).expect("the program starts");
        let said = [read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap())];
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                None => {
                    child.kill().ok();
                    child.wait().ok();
                    break None;
                }
                ended => break ended,
            }
        };
        let [stdout, stderr] = said.map(|said| said.join().unwrap());
        assert!(status.is_some(), "it does not end: {stdout}{stderr}");
        Ended { code: status.and_then(|status| status.code()), stdout, stderr }
    }

    fn command(&self) -> Command {
        let tie = if setpriv() { &["setpriv", "--pdeathsig", "KILL"][..] } else { &[] };
        let under = self.under.iter().map(String::as_str);
        let mut words = tie.iter().copied().chain(under).chain([self.program.to_str().unwrap()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CLOUDIA_") {
                command.env_remove(name);
            }
        }
        if !self.bare {
            command.arg("serve").arg("--data").arg(&self.data);
            command.args(["--listen", &self.listen, "--admin", &self.admin]);
            command.args(["--workers", &self.workers.to_string()]);
            if let Some(io) = &self.io {
                command.args(["--io", io]);
            }
        }
        command.args(&self.flags).current_dir(&self.cwd);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Server {
    /// Serves a site with two workers and the defaults for the rest.
    pub(crate) fn start(site: &Site) -> Server {
        Server::builder(site).start()
    }

    pub(crate) fn builder(site: &Site) -> Launch {
        Launch {
            data: site.data().to_owned(),
            cwd: site.outside().to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            admin: "127.0.0.1:0".to_owned(),
            workers: 2,
            flags: Vec::new(),
            io: env::var("CLOUDIA_TEST_IO").ok(),
            bare: false,
            env: Vec::new(),
            under: Vec::new(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_cloudia")),
        }
    }

    /// A server that is to take this one's place, on the addresses by which the harness knows it.
    pub(crate) fn successor(&self, site: &Site) -> Launch {
        let launch = Server::builder(site).listen(self.addr).args(&["--take-over"]);
        match self.admin {
            Some(admin) => launch.admin(admin),
            None => launch.admin("off"),
        }
    }

    pub(crate) fn connect(&self) -> Conn {
        Conn::to(self.addr)
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, path: &str, fields: &[&str]) -> Response {
        let mut conn = self.connect();
        conn.send(cases::get_with(path, fields));
        conn.recv()
    }

    /// One GET on the admin listener.
    pub(crate) fn admin_get(&self, path: &str, fields: &[&str]) -> Response {
        let mut conn = Conn::to(self.admin.expect("an admin listener"));
        conn.send(cases::request("GET", path, fields, ""));
        conn.recv()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Asks the server to end and waits for it.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Ends the server without a warning, and returns the moment it has ended.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the server to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the server has ended", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    pub(crate) fn stdout(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.err.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("server said:\n{}{}", self.stdout(), self.stderr());
        }
    }
}

/// Listening addresses by the first word of their line.
type Urls = Vec<(String, SocketAddr)>;

fn drain_stdout(stdout: ChildStdout, ready: Sender<Urls>) -> Tap {
    let tap = Tap::default();
    let said = Arc::clone(&tap);
    thread::spawn(move || {
        let mut urls = Urls::new();
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            said.lock().unwrap().push_str(&format!("{line}\n"));
            if line.starts_with("ready") {
                ready.send(urls.clone()).ok();
            }
            urls.extend(parse_url(&line));
        }
    });
    tap
}

/// `listen   http://127.0.0.1:41234/` → `("listen", 127.0.0.1:41234)`.
fn parse_url(line: &str) -> Option<(String, SocketAddr)> {
    let mut words = line.split_whitespace();
    let key = words.next()?;
    let url = words.next_back()?.strip_prefix("http://")?;
    let addr = url.trim_end_matches('/').parse().ok()?;
    matches!(key, "listen" | "admin").then(|| (key.to_owned(), addr))
}

fn drain_stderr(mut stderr: ChildStderr) -> Tap {
    let tap = Tap::default();
    let said = Arc::clone(&tap);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = stderr.read(&mut chunk) {
            said.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
    });
    tap
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).ok();
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// Whether util-linux is here to tie a child's life to ours.
fn setpriv() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let tried = Command::new("setpriv").args(["--pdeathsig", "KILL", "true"]).status();
        tried.is_ok_and(|status| status.success())
    })
}

/// Spawns from one thread that lives as long as the process: `PR_SET_PDEATHSIG` kills the child when the
/// *thread* that forked it ends, and a test's thread ends before a server in a `static` should.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders_sent, orders): (_, Receiver<Order>) = mpsc::channel();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                reply.send(command.spawn()).ok();
            }
        });
        orders_sent
    });
    let (reply, child) = mpsc::channel();
    spawner.send((command, reply)).unwrap();
    child.recv().unwrap()
}
