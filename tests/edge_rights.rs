//! What the process may still do once it serves: no more rights, no other user's, and no file but its own to write.

use std::{
    fs,
    io::Write,
    os::unix::{
        fs::{PermissionsExt, chown},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use crate::{
    edge_proxy::v2,
    harness::{Launch, Server, Site, own_address, wait_until},
    public::Public,
    takeover_faults::is_root,
};

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65534;

/// The lines of each thread's status, by the thread's name.
fn threads(server: &Server) -> Vec<(String, Vec<(String, String)>)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let pair = |line: &str| line.split_once(":\t").map(|(key, value)| (key.to_owned(), value.trim().to_owned()));
    let found: Vec<_> = texts
        .map(|text| {
            let lines: Vec<(String, String)> = text.lines().filter_map(pair).collect();
            (lines[0].1.clone(), lines)
        })
        .collect();
    assert!(found.len() > 3, "{} threads", found.len());
    found
}

/// Every thread says this.
#[track_caller]
fn assert_each(server: &Server, expected: &[(&str, &str)]) {
    for (name, lines) in threads(server) {
        for (key, value) in expected {
            let (_, found) = lines.iter().find(|(is, _)| is == key).unwrap();
            assert_eq!(found, value, "{key} of the thread {name}");
        }
    }
}

const NO_RIGHTS: [(&str, &str); 3] =
    [("CapInh", "0000000000000000"), ("CapPrm", "0000000000000000"), ("CapEff", "0000000000000000")];

/// A place that `nobody` may write to, with settings that name a socket and a snapshot there.
struct Place {
    public: Public,
    site: Site,
    place: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let found = Place { public: Public::new(), site: Site::new(), place };
        for name in ["kept", "run"] {
            found.make(&found.path(name));
        }
        let lines = format!(
            "[quotes]\nsocket = \"{}\"\nsnapshot = \"{}\"\n",
            found.path("run/quotes.sock").display(),
            found.path("kept/quotes").display()
        );
        fs::write(found.path("settings.toml"), lines).unwrap();
        found
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A directory of `nobody`'s.
    fn make(&self, directory: &Path) {
        fs::create_dir(directory).unwrap();
        if is_root() {
            chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    fn launch(&self) -> Launch {
        let launch = Server::builder(&self.site).program(self.public.program()).data(self.public.data("data"));
        launch.flag("--config", self.path("settings.toml").display())
    }

    fn feed(&self, lines: &str) {
        let mut feeder = UnixStream::connect(self.path("run/quotes.sock")).unwrap();
        feeder.write_all(lines.as_bytes()).unwrap();
    }

    /// Bytes of the snapshot, wherever its directory is.
    fn kept(&self, directory: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(directory).join("quotes")).unwrap_or_default()).into_owned()
    }
}

#[test]
fn nobody_gets_new_rights_by_a_program() {
    let site = Site::new();
    assert_each(&Server::start(&site), &[("NoNewPrivs", "1")]);
    assert_each(&Server::builder(&site).workers(4).start(), &[("NoNewPrivs", "1")]);
}

/// Bound to a port that only root may have, and then nobody in particular: in every thread.
#[test]
fn with_a_user_all_else_is_gone() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut address = own_address();
    address.set_port(81 + (address.port() % 900));
    let groups = ["setpriv", "--groups", "4,20,27"];
    let mut server = place.launch().under(&groups).listen(address).flag("--user", "nobody").start();
    let ids = format!("{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}");
    assert_each(&server, &NO_RIGHTS);
    assert_each(&server, &[("CapAmb", "0000000000000000"), ("CapBnd", "0000000000000000")]);
    assert_each(&server, &[("NoNewPrivs", "1"), ("Uid", &ids), ("Gid", &ids)]);
    for (name, lines) in threads(&server) {
        let (_, groups) = lines.iter().find(|(key, _)| key == "Groups").unwrap();
        assert!(groups.is_empty() || groups == &NOBODY.to_string(), "{name} is in the groups {groups:?}");
    }
    // Nothing that it needs is gone with them.
    assert_eq!(server.get("/alive.txt", &[]).status, 200);
    place.feed("a=1\n\n");
    wait_until("the quote is there", || server.get("/list=a", &[]).text().contains("\"1\""));
    assert_eq!(server.stop().code(), Some(0));
    assert!(place.kept("kept").contains("a"), "the snapshot was written at the end");
}

/// A service manager may start it as its user, with a capability for the port and nothing else.
#[test]
fn a_capability_that_was_lent_is_given_back() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut address = own_address();
    address.set_port(81 + (address.port() % 900));
    let lent = ["--inh-caps", "-all,+net_bind_service,+kill", "--ambient-caps", "-all,+net_bind_service,+kill"];
    let ids = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"];
    let server = place.launch().under(&[&["setpriv"][..], &ids, &lent].concat()).listen(address).start();
    assert_eq!(server.get("/alive.txt", &[]).status, 200);
    assert_each(&server, &NO_RIGHTS);
    assert_each(&server, &[("CapAmb", "0000000000000000"), ("NoNewPrivs", "1")]);
}

/// Whoever takes its place has no more than it had.
#[test]
fn the_next_one_has_no_more() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut old = place.launch().listen(own_address()).admin(own_address()).flag("--user", "nobody").start();
    let next = place.launch().listen(old.addr).admin(old.admin.unwrap()).flag("--user", "nobody");
    let new = next.args(&["--take-over"]).start();
    assert_eq!(old.wait().code(), Some(0));
    assert_each(&new, &NO_RIGHTS);
    assert_each(&new, &[("NoNewPrivs", "1")]);
}

/// Landlock's version, 0 where the kernel has none.
fn landlock() -> i64 {
    const CREATE_RULESET: i64 = 444;
    const VERSION: u32 = 1;
    // SAFETY: with no attributes and this flag the call only says which version the kernel has.
    unsafe { libc::syscall(CREATE_RULESET, std::ptr::null::<u8>(), 0_usize, VERSION) }
}

/// Who could make the server write elsewhere (here: who puts another directory in the place of the snapshot's) gains nothing: it
/// may write beneath what the name meant when it started.
#[test]
fn it_writes_nowhere_but_where_it_said() {
    if landlock() < 1 {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    for user in [&["--user", "nobody"][..], &[]].into_iter().filter(|user| user.is_empty() || is_root()) {
        let place = Place::new();
        let mut server = place.launch().args(user).start();
        place.feed("a=first\n\n");
        wait_until("the snapshot is written", || place.kept("kept").contains("first"));
        fs::rename(place.path("kept"), place.path("moved")).unwrap();
        place.make(&place.path("kept"));
        place.feed("a=second\n\n");
        wait_until("the quote is there", || server.get("/list=a", &[]).text().contains("second"));
        // It tries once more at the end.
        server.stop();
        assert_eq!(place.kept("kept"), "", "it has written to a directory that was not there when it began");
        assert!(fs::read_dir(place.path("kept")).unwrap().next().is_none());
        assert!(server.stderr().contains("kept"), "it says so: {}", server.stderr());
    }
}

/// The directories of sockets may be written to for this alone.
#[test]
fn sockets_go_with_it() {
    for user in [&["--user", "nobody"][..], &[]].into_iter().filter(|user| user.is_empty() || is_root()) {
        let place = Place::new();
        let names = ["run/plain", "run/balancer"].map(|name| place.path(name));
        let [plain, balancer] = names.each_ref().map(|path| format!("unix:{}", path.display()));
        let launch = place.launch().args(user).flag("--listen", plain).flag("--listen-proxy", balancer);
        let mut server = launch.start();
        for (path, header) in names.iter().zip([Vec::new(), v2([192, 0, 2, 9])]) {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.write_all(&[header, crate::cases::get("/alive.txt")].concat()).unwrap();
            let mut begin = [0; 12];
            std::io::Read::read_exact(&mut stream, &mut begin).unwrap();
            assert_eq!(&begin, b"HTTP/1.1 200");
        }
        assert_eq!(server.stop().code(), Some(0));
        let left: Vec<_> = fs::read_dir(place.path("run")).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The data directory is read, and changes of it are followed, with nothing to write there.
#[test]
fn it_reads_what_it_may_not_write() {
    let place = Place::new();
    let server = place.launch().start();
    let data = place.public.data("data");
    fs::write(data.join("new.txt"), "new").unwrap();
    wait_until("it is served", || server.get("/new.txt", &[]).text() == "new");
    fs::create_dir(data.join("deep")).unwrap();
    fs::write(data.join("deep/er.txt"), "deeper").unwrap();
    wait_until("it is served", || server.get("/deep/er.txt", &[]).text() == "deeper");
}
