//! Take-overs that go wrong: the old one stays as it was, serves, and can be taken over later.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread};

use crate::{
    harness::{Ended, Launch, Server, Site, Starting, own_address, wait_until},
    pollers::{Manner, Pollers},
    public::Public,
    stop::wait_until_refused,
    takeover::{assert_all_are_of, founder, heir, site_of, who},
};

/// A site that takes so long to load that whoever loads it can be caught at it.
fn slow_site(who: &str) -> Site {
    let site = site_of(who);
    let text = crate::stop::big_body();
    for number in 0..400 {
        // In characters that a compressor has to work for.
        let part: String = text[number * 8192..][..8192].iter().map(|byte| format!("{byte:02x}{number}")).collect();
        site.file(&format!("slow/{number}.js"), part);
    }
    site
}

/// The sockets of a process that the main thread has, by their inodes.
fn sockets(pid: u32) -> Vec<String> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
}

/// The inodes of the sockets that listen on `addr`.
fn listening(addr: SocketAddr) -> Vec<String> {
    let port = format!(":{:04X}", addr.port());
    let text = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|words| words.len() > 9 && words[1].ends_with(&port) && words[3] == "0A");
    rows.map(|words| format!("socket:[{}]", words[9])).collect()
}

/// Starts a successor and holds it in the middle of its load, when it has the old one's sockets.
fn held_while_it_loads(launch: Launch, addr: SocketAddr) -> Starting {
    let wanted = listening(addr);
    let mut starting = launch.begin();
    wait_until("it has the sockets", || {
        assert!(starting.server.is_running(), "{}", starting.server.stderr());
        sockets(starting.server.pid()).iter().any(|socket| wanted.contains(socket))
    });
    starting.server.signal("STOP");
    assert!(!starting.is_ready(), "it loads faster than it can be caught");
    starting
}

/// One line on stderr, nothing on stdout, and exit code 2.
#[track_caller]
fn assert_refused(ended: &Ended, words: &[&str]) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.stderr.starts_with("cloudia: ") && ended.stderr.lines().count() == 1, "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "it does not say {word:?}: {ended:?}");
    }
}

/// The old one serves as if nothing had been tried, and gives way to the next that comes.
#[track_caller]
fn assert_stays(old: &mut Server, pollers: Pollers) {
    assert!(old.is_running(), "{}", old.stderr());
    pollers.wait_for_more(40);
    assert_eq!(pollers.noticed_nothing().last_words, 0, "the old one has begun to drain");
    assert_all_are_of(old.addr, "old");
    assert_eq!(old.admin_get("/readyz", &["Host: localhost"]).status, 200);
    let next = site_of("next");
    let new = heir(old, &next).start();
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "next");
}

fn started(site: &Site) -> (Server, Pollers) {
    let old = founder(site).start();
    let pollers = Pollers::start(old.addr, 20, Manner::KeepAlive);
    (old, pollers)
}

#[test]
fn one_that_is_refused_changes_nothing() {
    let [site, next] = [site_of("old"), site_of("new")];
    let (mut old, pollers) = started(&site);
    let missing = next.outside().join("missing");
    let snapshot = next.outside().join("bad.toml");
    fs::write(&snapshot, "[quotes]\nsocket = \"/nowhere/at/all\"\n").unwrap();
    let refused: [(Launch, &[&str]); 6] = [
        (heir(&old, &next).args(&["--no-such-flag"]), &["--no-such-flag"]),
        (heir(&old, &next).flag("--max-connections", 0), &["max-connections"]),
        (heir(&old, &next).data(&missing), &["missing", "--data"]),
        (heir(&old, &next).flag("--user", "no-such-user"), &["no-such-user"]),
        (heir(&old, &next).flag("--config", next.outside().join("none.toml").display()), &["none.toml"]),
        (heir(&old, &next).flag("--config", snapshot.display()), &["/nowhere/at/all"]),
    ];
    for (launch, words) in refused {
        assert_refused(&launch.end(), words);
    }
    assert_stays(&mut old, pollers);
}

#[test]
fn one_that_is_killed_while_it_loads_changes_nothing() {
    let [site, next] = [site_of("old"), slow_site("new")];
    let (mut old, pollers) = started(&site);
    for _ in 0..3 {
        let mut killed = held_while_it_loads(heir(&old, &next), old.addr);
        assert_all_are_of(old.addr, "old");
        killed.server.kill();
        assert_all_are_of(old.addr, "old");
    }
    assert_stays(&mut old, pollers);
}

/// However long it takes, the old one serves and follows its files meanwhile.
#[test]
fn one_that_hangs_while_it_loads_holds_nothing_up() {
    let [site, next] = [site_of("old"), slow_site("new")];
    let (mut old, pollers) = started(&site);
    let hangs = held_while_it_loads(heir(&old, &next), old.addr);
    site.replace("changed.txt", "changed", std::time::SystemTime::now());
    wait_until("the change is served", || old.get("/changed.txt", &[]).text() == "changed");
    assert_eq!(old.admin_get("/readyz", &["Host: localhost"]).status, 200);
    hangs.server.signal("CONT");
    let new = hangs.become_ready().unwrap();
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
    pollers.noticed_nothing();
}

/// It is told to stop while another one is about to take its place: it drains and ends, and the other one serves.
#[test]
fn a_signal_to_the_old_one_while_the_new_one_loads() {
    let [site, next] = [site_of("old"), slow_site("new")];
    let (mut old, pollers) = started(&site);
    let loading = held_while_it_loads(heir(&old, &next), old.addr);
    old.signal("TERM");
    loading.server.signal("CONT");
    let new = loading.become_ready().unwrap();
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
    pollers.noticed_nothing();
}

/// The sockets are the new one's already, so who connects meanwhile waits for it instead of being refused.
#[test]
fn the_old_one_is_killed_while_the_new_one_loads() {
    let [site, next] = [site_of("old"), slow_site("new")];
    let mut old = founder(&site).start();
    let loading = held_while_it_loads(heir(&old, &next), old.addr);
    old.kill();
    loading.server.signal("CONT");
    let new = loading.become_ready().unwrap();
    assert_all_are_of(new.addr, "new");
    assert_eq!(new.admin_get("/readyz", &["Host: localhost"]).status, 200);
}

/// Both may succeed, one after the other, or one of them is refused; one serves in the end, on all connections.
#[test]
fn of_two_at_once_one_serves() {
    for _ in 0..4 {
        let [site, left, right] = [site_of("old"), site_of("left"), site_of("right")];
        let (mut old, pollers) = started(&site);
        let both = [(&left, "left"), (&right, "right")].map(|(site, name)| (heir(&old, site).begin(), name));
        let both = both.map(|(starting, name)| (starting.become_ready(), name));
        assert_eq!(old.wait().code(), Some(0), "{:?}", both.map(|(started, _)| started.err()));
        let mut serving = Vec::new();
        for (started, name) in both {
            match started {
                Ok(server) => serving.push((server, name)),
                Err(why) => assert!(why.contains("cloudia: ") && !why.contains("panicked"), "{why}"),
            }
        }
        // One may have been taken over by the other; its connections poll, so it ends.
        wait_until("one is left", || {
            serving.retain_mut(|(server, _)| server.is_running());
            serving.len() == 1
        });
        assert_all_are_of(old.addr, serving[0].1);
        pollers.wait_for_more(40);
        pollers.noticed_nothing();
    }
}

/// A take-over is under way and hangs; the next one waits for its turn, which comes when the first has ended.
#[test]
fn another_one_while_one_hangs() {
    let [site, slow, next] = [site_of("old"), slow_site("slow"), site_of("new")];
    let (mut old, pollers) = started(&site);
    let mut hangs = held_while_it_loads(heir(&old, &slow), old.addr);
    let other = heir(&old, &next).begin();
    pollers.wait_for_more(40);
    assert_all_are_of(old.addr, "old");
    hangs.server.kill();
    let new = other.become_ready().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
    pollers.noticed_nothing();
}

/// The process that is asked to give way is stopped, so it does not answer: the new one does not serve beside it.
#[test]
fn one_that_ends_while_it_waits_for_the_old_one() {
    let [site, next] = [site_of("old"), site_of("new")];
    let (mut old, pollers) = started(&site);
    old.signal("STOP");
    let mut waits = heir(&old, &next).begin();
    // It may have connected or not.
    thread::yield_now();
    waits.server.kill();
    old.signal("CONT");
    assert_stays(&mut old, pollers);
}

pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can be other users");
    }
    is_root
}

const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"];
const AS_DAEMON: [&str; 4] = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"];

#[test]
fn other_users_are_refused() {
    if !is_root() {
        return;
    }
    let (public, site) = (Public::new(), site_of("old"));
    for (owner, stranger) in [(None, &AS_NOBODY), (Some("nobody"), &AS_DAEMON)] {
        let mut launch = public.launch(founder(&site), "old");
        if let Some(owner) = owner {
            launch = launch.flag("--user", owner);
        }
        let mut old = launch.start();
        let pollers = Pollers::start(old.addr, 20, Manner::KeepAlive);
        let ended = public.launch(heir(&old, &site), "stranger").under(stranger).end();
        assert_refused(&ended, &["--take-over", "user"]);
        assert_stays(&mut old, pollers);
    }
}

/// The same user may, and root may.
#[test]
fn friends_are_not_refused() {
    if !is_root() {
        return;
    }
    let (public, site) = (Public::new(), site_of("old"));
    for user_flag in [true, false] {
        let launch = public.launch(founder(&site), "old");
        let launch = if user_flag { launch.flag("--user", "nobody") } else { launch.under(&AS_NOBODY) };
        let mut old = launch.start();
        let pollers = Pollers::start(old.addr, 20, Manner::KeepAlive);
        let mut second = public.launch(heir(&old, &site), "second").under(&AS_NOBODY).start();
        assert_eq!(old.wait().code(), Some(0));
        assert_all_are_of(old.addr, "second");
        let mut third = public.launch(heir(&second, &site), "third").flag("--user", "nobody").start();
        assert_eq!(second.wait().code(), Some(0));
        assert_all_are_of(old.addr, "third");
        pollers.noticed_nothing();
        assert_eq!(third.stop().code(), Some(0));
    }
}

/// The abstract names that hold the address's port.
fn names(addr: SocketAddr) -> Vec<String> {
    let text = fs::read_to_string("/proc/net/unix").unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().nth(7));
    names.filter(|name| name.starts_with('@') && name.contains(&addr.to_string())).map(str::to_owned).collect()
}

/// A program of another user that sits where a server would be asked to give way: its words are not believed, and a server
/// that cannot have its name says so.
#[test]
fn the_name_of_another_user_is_not_believed() {
    const SQUAT: &str = "
import socket, sys
squatter = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
squatter.bind('\\0' + sys.argv[1][1:])
squatter.listen(16)
print('there', flush=True)
while True:
    try:
        client, _ = squatter.accept()
        client.sendall(b'ok\\n' * 100)
    except OSError:
        pass
";
    if !is_root() {
        return;
    }
    let site = site_of("old");
    let mut server = founder(&site).start();
    let addr = server.addr;
    let found = names(addr);
    assert_eq!(found.len(), 1, "{found:?}");
    server.stop();
    drop(server);
    wait_until("the name is free", || names(addr).is_empty());
    let squatter = Squatter::start(&AS_NOBODY, SQUAT, &found[0]);
    wait_until("the name is taken", || !names(addr).is_empty());
    let again = || founder(&site).listen(addr);
    // Nobody serves there, so it may serve; that it cannot be taken over later is worth a line.
    let mut server = again().start();
    wait_until("it says that it cannot be found", || server.stderr().contains(&addr.to_string()));
    assert_all_are_of(addr, "old");
    server.stop();
    match again().args(&["--take-over"]).begin().become_ready() {
        Ok(server) => {
            wait_until("it says that it cannot be found", || server.stderr().contains(&addr.to_string()));
            assert_eq!(who(addr), "old");
        }
        Err(why) => assert!(why.contains("cloudia: --take-over") && why.contains("user"), "{why}"),
    }
    drop(squatter);
}

struct Squatter(std::process::Child);

impl Squatter {
    fn start(user: &[&str], script: &str, name: &str) -> Squatter {
        let mut command = Command::new(user[0]);
        command.args(&user[1..]).args(["/usr/bin/python3", "-c", script, name]);
        Squatter(command.stdout(std::process::Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Any other address of the machine, and any other program on it, is no predecessor.
#[test]
fn a_foreign_program_on_the_address_is_refused() {
    let site = Site::new();
    let foreign = std::net::TcpListener::bind(own_address()).unwrap();
    let addr = foreign.local_addr().unwrap();
    assert_refused(&founder(&site).listen(addr).args(&["--take-over"]).end(), &[&addr.to_string(), "another program"]);
}

/// The old one is about to end by itself: the new one starts where it was.
#[test]
fn an_old_one_that_drains_already() {
    let [site, next] = [site_of("old"), site_of("new")];
    let mut old = founder(&site).admin("off").start();
    let mut idle = old.connect();
    idle.assert_open();
    old.signal("TERM");
    wait_until_refused(old.addr);
    let new = heir(&old, &next).start();
    assert_all_are_of(new.addr, "new");
    crate::stop::last_answer(&mut idle);
    drop(idle);
    assert_eq!(old.wait().code(), Some(0));
    assert_all_are_of(new.addr, "new");
    assert!(Path::new("/proc").join(new.pid().to_string()).exists());
}
