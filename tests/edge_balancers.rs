//! Behind real balancers, with the files in `deploy/`: HAProxy and nginx. `tools/test` installs them.

use std::{
    fs,
    io::Read,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::{
    cases::request,
    crowd::{assert_shed, from, source},
    edge_proxy::{headers, v2},
    harness::{Conn, Launch, Server, Site, own_address, wait_until},
    network::within,
    pollers::{Manner, Pollers},
    stop::LONG_GRACE,
};

/// What stands in `haproxy.cfg` where the token goes.
const TOKEN: &str = "CHANGE-ME-CHANGE-ME";

/// A server with its listener for balancers.
struct Backend {
    server: Server,
    proxy: SocketAddr,
}

impl Backend {
    fn launch(site: &Site) -> (Launch, SocketAddr) {
        let proxy = own_address();
        let launch = Server::builder(site).listen(own_address()).admin(own_address());
        (launch.flag("--listen-proxy", proxy).flag("--trusted-proxies", "127.0.0.1"), proxy)
    }

    fn start(site: &Site, flags: &[&str]) -> Backend {
        let (launch, proxy) = Backend::launch(site);
        Backend { server: launch.args(flags).start(), proxy }
    }
}

/// A balancer that runs until this is dropped.
struct Balancer {
    addr: SocketAddr,
    said: Arc<Mutex<String>>,
    child: Child,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    HaProxy,
    Stream,
    Http,
}

impl Balancer {
    /// With the file as it is in `deploy/`, but for addresses and sizes.
    fn start(kind: Kind, site: &Site, servers: [(SocketAddr, SocketAddr); 2]) -> Balancer {
        let addr = own_address();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        let name = match kind {
            Kind::HaProxy => "haproxy.cfg",
            Kind::Stream => "nginx-stream.conf",
            Kind::Http => "nginx-http.conf",
        };
        let mut text = fs::read_to_string(deploy.join(name)).unwrap();
        let mut put = |old: &str, new: &str| {
            assert!(text.contains(old), "{name} has no {old:?}");
            text = text.replace(old, new);
        };
        let place = site.outside().display();
        match kind {
            Kind::HaProxy => {
                put("maxconn 50000", "maxconn 500");
                put("bind :80", &format!("bind {addr}"));
            }
            Kind::Stream | Kind::Http => {
                put("listen 80", &format!("listen {addr}"));
                put("worker_processes auto;", "worker_processes 1;\ndaemon off;\nmaster_process off;");
                put("worker_rlimit_nofile 100000;", "");
                put("worker_connections 50000", "worker_connections 500");
                put("/run/nginx.pid", &format!("{place}/nginx.pid"));
            }
        }
        if let Kind::Http = kind {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let lines: String =
                temporary.iter().map(|name| format!("{name}_temp_path {place}/nginx-{name};\n")).collect();
            put("access_log off;", &format!("access_log off;\n{lines}"));
        }
        for (number, (public, admin)) in servers.iter().enumerate() {
            let host = format!("10.0.0.1{}", number + 1);
            let check = format!("{host}:8081 check addr {host} port 9180");
            match kind {
                Kind::HaProxy => put(&check, &format!("{public} check addr {} port {}", admin.ip(), admin.port())),
                Kind::Stream => put(&format!("server {host}:8081"), &format!("server {public}")),
                Kind::Http => put(&format!("server {host}:8080"), &format!("server {public}")),
            }
        }
        let path = site.outside().join(name);
        fs::write(&path, text).unwrap();
        Balancer::run(kind, addr, &path)
    }

    fn run(kind: Kind, addr: SocketAddr, path: &Path) -> Balancer {
        let program: &[&str] = if let Kind::HaProxy = kind { &["haproxy", "-db", "-f"] } else { &["nginx", "-c"] };
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(program)
            .arg(path)
            .env("PATH", with_sbin())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv is there");
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for mut stream in streams {
            let said = said.clone();
            thread::spawn(move || {
                let mut chunk = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut chunk) {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..n]));
                }
            });
        }
        let mut balancer = Balancer { addr, said, child };
        wait_until("the balancer listens; tools/test installs haproxy and nginx", || {
            let ended = balancer.child.try_wait().unwrap();
            assert!(ended.is_none(), "{kind:?} has ended: {}", balancer.said());
            Conn::try_to(addr).is_ok()
        });
        balancer
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }
}

/// Debian keeps servers where a user's PATH does not look.
fn with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            eprintln!("the balancer said:\n{}", self.said());
        }
    }
}

/// Two backends behind a balancer of this kind.
fn pair(kind: Kind, site: &Site, flags: &[&str]) -> ([Backend; 2], Balancer) {
    let backends = [(); 2].map(|()| Backend::start(site, flags));
    let addresses = backends.each_ref().map(|backend| (backend.proxy, backend.server.admin.unwrap()));
    let balancer = Balancer::start(kind, site, addresses);
    (backends, balancer)
}

fn everyone(addr: SocketAddr) -> [Pollers; 2] {
    [Manner::KeepAlive, Manner::Fresh].map(|manner| Pollers::start(addr, 20, manner))
}

/// Requests pass, on both servers, and the addresses of clients reach the limit.
fn sources_reach_the_limit(kind: Kind) {
    let site = Site::new();
    let (backends, balancer) = pair(kind, &site, &["--max-connections-per-ip", "2"]);
    // One source has two places on each of two servers.
    let served = |n: usize| {
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut conn = from(source(n), balancer.addr);
            conn.send(crate::cases::get("/alive.txt"));
            let answer = conn.recv();
            match answer.status {
                200 => held.push(conn),
                status => assert_eq!((status, answer.get("retry-after")), (503, Some("1")), "{answer}"),
            }
        }
        held
    };
    let held: Vec<Vec<Conn>> = (1..5).map(served).collect();
    assert!(held.iter().all(|held| (2..=4).contains(&held.len())));
    for backend in &backends {
        assert!(headers(&backend.server, "accepted") >= 4, "each server has had its share");
        assert_eq!((headers(&backend.server, "malformed"), headers(&backend.server, "untrusted")), (0, 0));
    }
    // The one that is told is the source of the header, wherever it comes from.
    let full = held.iter().position(|held| held.len() == 4);
    if let Some(n) = full {
        let mut same = Conn::to(backends[0].proxy);
        same.send(v2(source(n + 1)));
        assert_shed(&mut same);
    }
}

#[test]
fn haproxy_passes_the_sources_on() {
    sources_reach_the_limit(Kind::HaProxy);
}

#[test]
fn nginx_passes_the_sources_on() {
    sources_reach_the_limit(Kind::Stream);
}

/// Everyone goes to the other server, and nobody notices.
fn a_server_that_drains_is_left(kind: Kind) {
    let site = Site::new();
    let token = site.outside().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let flags = ["--grace", &LONG_GRACE.to_string(), "--admin-token-file", token.to_str().unwrap()];
    let ([mut one, two], balancer) = pair(kind, &site, &flags);
    let pollers = everyone(balancer.addr);
    // As long as this one is open, the server drains.
    let mut held = one.server.connect();
    held.assert_open();
    one.server.signal("TERM");
    let ready = |backend: &Backend| {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        backend.server.admin_get("/readyz", &["Host: localhost", &bearer]).status
    };
    wait_until("it drains", || ready(&one) == 503);
    if let Kind::HaProxy = kind {
        wait_until("the balancer has noticed", || balancer.said().contains("code: 503"));
    }
    pollers.iter().for_each(|pollers| pollers.wait_for_more(400));
    let tallies = pollers.map(Pollers::noticed_nothing);
    assert!(tallies[0].last_words > 0, "nobody was on the server that drained");
    assert_eq!(ready(&two), 200);
    held.assert_open();
    drop(held);
    assert_eq!(one.server.wait().code(), Some(0));
}

#[test]
fn haproxy_leaves_a_server_that_drains() {
    a_server_that_drains_is_left(Kind::HaProxy);
}

#[test]
fn nginx_leaves_a_server_that_drains() {
    a_server_that_drains_is_left(Kind::Stream);
}

/// Both servers are replaced, one after the other, and then again.
fn a_take_over_loses_nothing(kind: Kind) {
    let site = Site::new();
    let (mut backends, balancer) = pair(kind, &site, &[]);
    let pollers = everyone(balancer.addr);
    for number in [0, 1, 0, 1] {
        let Backend { server: old, proxy } = &mut backends[number];
        let launch = old.successor(&site).flag("--listen-proxy", *proxy).flag("--trusted-proxies", "127.0.0.1");
        let new = launch.start();
        assert_eq!(old.wait().code(), Some(0));
        pollers.iter().for_each(|pollers| pollers.wait_for_more(100));
        wait_until("it has its share", || headers(&new, "accepted") > 0);
        *old = new;
    }
    pollers.into_iter().for_each(|pollers| drop(pollers.noticed_nothing()));
}

#[test]
fn behind_haproxy_a_take_over_loses_nothing() {
    a_take_over_loses_nothing(Kind::HaProxy);
}

#[test]
fn behind_nginx_a_take_over_loses_nothing() {
    a_take_over_loses_nothing(Kind::Stream);
}

/// This kernel need not have what it would do; that the file is one is all that is shown.
#[test]
fn keepalived_accepts_its_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/lvs-dr/keepalived.conf");
    let read = Command::new("keepalived").args(["-t", "-f"]).arg(path).env("PATH", with_sbin()).output();
    let read = read.expect("tools/test installs keepalived");
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success() && !said.contains("nknown keyword"), "{}: {said}", read.status);
}

/// Its address is there and is served, and gone again.
#[test]
fn a_real_server_of_lvs_answers_for_the_address_of_the_site() {
    within(&[], |network| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/lvs-dr/real-server");
        let run = |words: &[&str]| {
            let done = Command::new(&script).args(words).env("PATH", with_sbin()).stderr(Stdio::null()).status();
            done.is_ok_and(|status| status.success())
        };
        let site = Site::new();
        let launch = Server::builder(&site).under(&network.words()).listen("0.0.0.0:8001").admin("127.0.0.1:8002");
        let _server = launch.start();
        let vip = SocketAddr::from(([192, 0, 2, 10], 8001));
        let ignores = || fs::read_to_string("/proc/sys/net/ipv4/conf/all/arp_ignore").unwrap().trim().to_owned();
        assert!(Conn::try_to(vip).is_err());
        assert!(run(&["start", "192.0.2.10"]));
        assert!(run(&["start", "192.0.2.10"]), "a second time is no error");
        Conn::to(vip).assert_open();
        assert_eq!(ignores(), "1");
        assert!(run(&["stop", "192.0.2.10"]));
        assert!(Conn::try_to(vip).is_err());
        assert_eq!(ignores(), "0");
        assert!(!run(&["start"]) && !run(&["restart", "192.0.2.10"]));
    });
}

/// nginx at the head of HTTP requests: its clients are known by what it says, and the log has them.
#[test]
fn nginx_as_a_proxy_names_clients_for_the_log() {
    let site = Site::new();
    let backends = [(); 2].map(|()| {
        Server::builder(&site).listen(own_address()).args(&["--log-refused", "--trusted-proxies", "127.0.0.1"]).start()
    });
    let addresses = backends.each_ref().map(|server| (server.addr, server.admin.unwrap()));
    let balancer = Balancer::start(Kind::Http, &site, addresses);
    let pollers = everyone(balancer.addr);
    let mut conn = from(source(9), balancer.addr);
    conn.send(request("BREW", "/pot", &["Host: h", "X-Forwarded-For: 192.0.2.66"], ""));
    assert_eq!(conn.recv().status, 501);
    let named = || backends.iter().any(|server| server.stderr().contains(&source(9).to_string()));
    wait_until("the log names the client", named);
    assert!(
        backends.iter().all(|server| !server.stderr().contains("192.0.2.66")),
        "what a client claims is not believed"
    );
    pollers.into_iter().for_each(|pollers| drop(pollers.noticed_nothing()));
}
