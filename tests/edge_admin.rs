//! The token of the admin listener, and the names that it answers to.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
};

use crate::{
    cases::get,
    harness::{Launch, Server, Site},
    public::Public,
    takeover_faults::is_root,
};

const TOKEN: &str = "Correct-Horse/Battery=Staple~42";
const PAGES: [&str; 5] = ["/healthz", "/readyz", "/metrics", "/status.json", "/status"];

/// A server whose token file holds `content`.
fn launch(site: &Site, content: impl AsRef<[u8]>) -> Launch {
    let path = site.outside().join("token");
    fs::write(&path, content).unwrap();
    Server::builder(site).flag("--admin-token-file", path.display())
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in text.as_bytes().chunks(3) {
        let bits = part.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        let digits = (0..=part.len()).map(|at| char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]));
        out.extend(digits.chain(std::iter::repeat_n('=', 3 - part.len())));
    }
    out
}

fn status(server: &Server, path: &str, authorization: &[&str]) -> u16 {
    let fields: Vec<&str> = ["Host: localhost"].iter().chain(authorization).copied().collect();
    server.admin_get(path, &fields).status
}

#[test]
fn every_page_wants_the_token() {
    assert_eq!(base64("admin:x"), "YWRtaW46eA==");
    let site = Site::new();
    let server = launch(&site, TOKEN).start();
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let basic = format!("Authorization: Basic {}", base64(&format!("anyone:{TOKEN}")));
    for page in PAGES.into_iter().chain(["/", "/none"]) {
        let refused = server.admin_get(page, &["Host: localhost"]);
        assert_eq!(refused.status, 401, "{page}: {refused}");
        // RFC 9110 §11.6.1: a 401 says what it wants.
        assert!(refused.get("www-authenticate").is_some(), "{page}: {refused}");
        assert!(!refused.text().contains("cloudia_"), "{page}");
        for good in [&bearer, &basic] {
            let with = status(&server, page, &[good]);
            assert!(with == 200 || (with == 404 && !PAGES.contains(&page)), "{page}: {with}");
        }
    }
    // It is the admin listener's affair.
    assert_eq!(server.get("/alive.txt", &[]).status, 200);
}

#[test]
fn only_the_token_is_the_token() {
    let site = Site::new();
    let server = launch(&site, format!("{TOKEN}\n")).start();
    let basic = |text: &str| format!("Authorization: Basic {}", base64(text));
    let bearer = |text: &str| format!("Authorization: Bearer {text}");
    let good = [
        bearer(TOKEN),
        format!("authorization: bearer {TOKEN}"),
        format!("AUTHORIZATION: BEARER {TOKEN}"),
        basic(&format!(":{TOKEN}")),
        basic(&format!("admin:{TOKEN}")),
        format!("authorization: basic {}", base64(&format!("a:{TOKEN}"))),
    ];
    for field in &good {
        assert_eq!(status(&server, "/healthz", &[field]), 200, "{field}");
    }
    let bad = [
        bearer(""),
        bearer(&TOKEN[1..]),
        bearer(&TOKEN[..TOKEN.len() - 1]),
        bearer(&format!("{TOKEN}x")),
        bearer(&format!("{TOKEN} x")),
        bearer(&TOKEN.to_lowercase()),
        bearer(&base64(TOKEN)),
        format!("Authorization: {TOKEN}"),
        format!("Authorization: Bearer{TOKEN}"),
        format!("Authorization: Digest {TOKEN}"),
        format!("X-Authorization: Bearer {TOKEN}"),
        format!("Cookie: Bearer {TOKEN}"),
        basic(TOKEN),
        basic(&format!("{TOKEN}:")),
        basic(&format!("a:{TOKEN}x")),
        basic(&format!("a:b:{TOKEN}")),
        format!("Authorization: Basic a:{TOKEN}"),
        "Authorization: Basic".to_owned(),
        "Authorization: Basic ====".to_owned(),
        "Authorization: Basic \u{ff}\u{ff}".to_owned(),
        format!("Authorization: Basic {}x", base64(&format!("a:{TOKEN}"))),
    ];
    for field in &bad {
        let status = status(&server, "/metrics", &[field]);
        assert_eq!(status, 401, "{field}");
    }
    // Which of two would count is nobody's guess.
    let twice = status(&server, "/metrics", &[&bearer("x"), &bearer(TOKEN)]);
    assert!([400, 401].contains(&twice), "{twice}");
    assert_eq!(status(&server, &format!("/metrics?token={TOKEN}"), &[]), 401);
}

/// A page that is led to a name of its own must not read it, token or not.
#[test]
fn a_token_does_not_open_other_names() {
    let site = Site::new();
    let server =
        launch(&site, TOKEN).args(&["--admin-name", "cloudia.internal", "--admin-name", "ops.example"]).start();
    let bearer = format!("Authorization: Bearer {TOKEN}");
    for (host, expected) in [
        ("localhost", 200),
        ("cloudia.internal", 200),
        ("CLOUDIA.Internal:9180", 200),
        ("ops.example", 200),
        ("127.0.0.1", 200),
        ("[::1]:9180", 200),
        ("evil.example", 403),
        ("cloudia.internal.evil.example", 403),
        ("xcloudia.internal", 403),
        ("internal", 403),
    ] {
        let host = format!("Host: {host}");
        assert_eq!(server.admin_get("/healthz", &[&host, &bearer]).status, expected, "{host}");
        assert!([401, 403].contains(&server.admin_get("/healthz", &[&host]).status), "{host}");
    }
}

#[test]
fn without_a_token_it_stays_on_loopback() {
    let site = Site::new();
    for addr in ["0.0.0.0:0", "[::]:0", "10.0.0.1:9180", "192.0.2.1:9180"] {
        let ended = Server::builder(&site).admin(addr).end();
        assert_eq!(ended.code, Some(2), "{addr}: {ended:?}");
        assert!(ended.stderr.contains("--admin-token-file"), "{addr}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{addr}: {}", ended.stderr);
    }
    for addr in ["127.0.0.1:0", "127.9.9.9:0"] {
        drop(Server::builder(&site).admin(addr).start());
    }
    drop(launch(&site, TOKEN).admin("0.0.0.0:0").start());
}

#[test]
fn a_token_is_long_enough_and_visible() {
    let site = Site::new();
    let good = ["a".repeat(16), "a".repeat(256), format!("{TOKEN}\n"), format!("{TOKEN}\r\n"), "!~".repeat(8)];
    for content in &good {
        let server = launch(&site, content).start();
        let field = format!("Authorization: Bearer {}", content.trim_end());
        assert_eq!(status(&server, "/healthz", &[&field]), 200, "{content:?}");
    }
    let mut bad: Vec<Vec<u8>> = [
        "",
        "\n",
        "short",
        "a a a a a a a a a a a a",
        "tab\tin the middle of it",
        "Grüße-an-alle-Leser",
        "two\nlines-of-token-here",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    bad.extend([vec![b'a'; 15], vec![b'a'; 257], vec![0; 32], [vec![b'a'; 20], vec![0]].concat(), vec![b'a'; 1 << 20]]);
    bad.push(format!(" {TOKEN}").into_bytes());
    bad.push(format!("{TOKEN}\n\n").into_bytes());
    for content in bad {
        let ended = launch(&site, &content).end();
        let shown = String::from_utf8_lossy(&content[..content.len().min(40)]).into_owned();
        assert_eq!(ended.code, Some(2), "{shown:?}: {ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{shown:?}: {}", ended.stderr);
        assert!(
            shown.trim().is_empty() || !ended.stderr.contains(shown.trim()),
            "it tells the token: {}",
            ended.stderr
        );
    }
    for missing in ["/nonexistent/token", "/", "/dev/null"] {
        let ended = Server::builder(&site).flag("--admin-token-file", missing).end();
        assert_eq!(ended.code, Some(2), "{missing}: {ended:?}");
        assert!(ended.stderr.contains(missing), "{}", ended.stderr);
    }
}

/// As the one that serves, not as the one that starts: so that a file for its group is enough, and one for root alone is not.
#[test]
fn the_file_is_read_after_the_change_of_user() {
    if !is_root() {
        return;
    }
    let public = Public::new();
    let site = Site::new();
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = place.path().join("token");
    fs::write(&path, TOKEN).unwrap();
    let group = nix::unistd::Group::from_name("nogroup").unwrap().unwrap().gid.as_raw();
    let launch = || {
        let launch = Server::builder(&site).flag("--user", "nobody").flag("--admin-token-file", path.display());
        public.launch(launch, "nobody")
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let ended = launch().end();
    assert_eq!(ended.code, Some(2), "root's file was read by root: {ended:?}");
    assert!(ended.stderr.contains(path.to_str().unwrap()), "{}", ended.stderr);
    chown(&path, None, Some(group)).unwrap();
    let server = launch().start();
    assert_eq!(status(&server, "/healthz", &[]), 401);
    assert_eq!(status(&server, "/healthz", &[&format!("Authorization: Bearer {TOKEN}")]), 200);
}

/// Nothing that anybody can look at has it.
#[test]
fn the_token_is_not_shown() {
    let site = Site::new();
    let server = launch(&site, TOKEN).args(&["--log-refused"]).start();
    let bearer = format!("Authorization: Bearer {TOKEN}");
    status(&server, "/healthz", &[&bearer]);
    status(&server, "/healthz", &[&bearer, &bearer]);
    let mut public = server.connect();
    public.send(crate::cases::request("BREW", "/", &["Host: h", &bearer], ""));
    assert_eq!(public.recv().status, 501);
    for page in PAGES {
        assert!(!server.admin_get(page, &["Host: localhost", &bearer]).text().contains(TOKEN), "{page}");
    }
    let process = format!("/proc/{}", server.pid());
    let shown = ["cmdline", "environ"]
        .map(|name| String::from_utf8_lossy(&fs::read(format!("{process}/{name}")).unwrap()).into_owned());
    assert!(!shown.concat().contains(TOKEN));
    assert!(!(server.stdout() + &server.stderr()).contains(TOKEN));
    let mut conn = server.connect();
    conn.send(get("/alive.txt"));
    assert_eq!(conn.recv().status, 200);
}
