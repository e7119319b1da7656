//! Wire section 1: what a request target means, and what is never published.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::OnceLock;

use crate::cases::{Case, Expect, case, check, get, request, status, with_host};
use crate::harness::{Server, Site};

/// One server for all cases that only read.
fn server() -> &'static Server {
    static SHARED: OnceLock<(Site, Server)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let site = Site::new();
        for name in [
            "index.html",
            "a.txt",
            "dir/index.html",
            "dir/b.txt",
            "bare/c.txt",
            "deep/er/d.txt",
            "sp ace.txt",
            "ü.txt",
            "per%41.txt",
            "plus+.txt",
            "what?.txt",
            "sharp#.txt",
            "sp dir/index.html",
            "ü/index.html",
            "50%/index.html",
            "we?ird/index.html",
            "h#sh/index.html",
            "\\evil/index.html",
            "a&b=c;d/index.html",
        ] {
            site.file(name, format!("<{name}>"));
        }
        let server = Server::start(&site);
        (site, server)
    });
    &shared.1
}

/// The file of that name.
fn file(name: &str) -> Expect {
    status(200).body(format!("<{name}>"))
}

/// A table of targets, each named by itself.
fn check_targets(targets: &[(&str, Expect)]) {
    let cases = targets.iter().map(|(target, expect)| {
        let name = target.escape_default().to_string();
        case(name, get(target), expect.clone())
    });
    check(server(), cases);
}

#[test]
fn key_is_the_path_percent_decoded_once() {
    check_targets(&[
        ("/a.txt", file("a.txt")),
        ("/dir/b.txt", file("dir/b.txt")),
        ("/%61.txt", file("a.txt")),
        ("/a%2Etxt", file("a.txt")),
        ("/a%2etxt", file("a.txt")),
        ("/dir%2Fb.txt", file("dir/b.txt")),
        ("/%64%69%72/%62.txt", file("dir/b.txt")),
        ("/sp%20ace.txt", file("sp ace.txt")),
        ("/%C3%BC.txt", file("ü.txt")),
        ("/%c3%bc.txt", file("ü.txt")),
        ("/plus+.txt", file("plus+.txt")),
        ("/plus%2B.txt", file("plus+.txt")),
        ("/what%3F.txt", file("what?.txt")),
        ("/sharp%23.txt", file("sharp#.txt")),
        ("/%2561.txt", status(404)),
        ("/per%2541.txt", file("per%41.txt")),
        ("/per%41.txt", status(404)),
        ("/sp+ace.txt", status(404)),
        ("/A.TXT", status(404)),
        ("/a.txt/", status(404)),
        ("/dir/b", status(404)),
        ("/%ff", status(404)),
        ("/a.txt%3Fx", status(404)),
    ]);
}

#[test]
fn origin_form_and_absolute_form_are_accepted() {
    let raw = |name: &str, method: &str, target: &str, expect| case(name, with_host(method, target, &[], ""), expect);
    check(
        server(),
        [
            raw("absolute", "GET", "http://h/a.txt", file("a.txt")),
            raw("scheme in any case", "GET", "HTTP://h/a.txt", file("a.txt")),
            raw("with a port", "GET", "http://h:80/a.txt", file("a.txt")),
            raw("other host", "GET", "http://[::1]:8080/a.txt", file("a.txt")),
            raw("no path", "GET", "http://h", file("index.html")),
            raw("no path, a query", "GET", "http://h?x", file("index.html")),
            raw("decoded", "GET", "http://h/%61.txt?x", file("a.txt")),
            raw("climbs", "GET", "http://h/../a.txt", status(400)),
            raw("empty host", "GET", "http:///a.txt", status(400)),
            raw("no slash", "GET", "a.txt", status(400)),
            raw("query alone", "GET", "?x", status(400)),
            raw("authority", "GET", "h:80", status(400)),
            case("absolute still wants Host", request("GET", "http://h/a.txt", &[""; 0], ""), status(400)),
        ],
    );
}

#[test]
fn asterisk_is_for_options_alone() {
    let star = |method: &str, expect| case(method, with_host(method, "*", &[], ""), expect);
    check(server(), [star("OPTIONS", status(204)), star("GET", status(400)), star("HEAD", status(400))]);
    check_targets(&[("*x", status(400)), ("/*", status(404))]);
}

#[test]
fn miss_is_normalised_and_tried_again() {
    check_targets(&[
        ("//a.txt", file("a.txt")),
        ("///a.txt", file("a.txt")),
        ("/./a.txt", file("a.txt")),
        ("/././/./a.txt", file("a.txt")),
        ("/dir/../a.txt", file("a.txt")),
        ("/none/../a.txt", file("a.txt")),
        ("/deep/er/../../a.txt", file("a.txt")),
        ("/deep/er/../er/d.txt", file("deep/er/d.txt")),
        ("/deep//er///d.txt", file("deep/er/d.txt")),
        ("/%2e/a.txt", file("a.txt")),
        ("/dir/%2E%2e/a.txt", file("a.txt")),
        ("/dir/..%2fa.txt", file("a.txt")),
        ("/dir%2f%2fb.txt", file("dir/b.txt")),
        ("/dir/none/../b.txt", file("dir/b.txt")),
        ("/...", status(404)),
        ("/.../a.txt", status(404)),
        ("/a.txt/.", status(404)),
        ("//none", status(404)),
        ("/dir/../none", status(404)),
    ]);
}

#[test]
fn empty_segments_go_first_then_dots() {
    check_targets(&[
        ("/dir//../a.txt", file("a.txt")),
        ("/x//../a.txt", file("a.txt")),
        ("/deep/er//../../a.txt", file("a.txt")),
        ("//../a.txt", status(400)),
        ("/dir//../../a.txt", status(400)),
    ]);
}

#[test]
fn bad_targets_are_400() {
    check_targets(&[
        ("/..", status(400)),
        ("/../", status(400)),
        ("/../a.txt", status(400)),
        ("/dir/../../a.txt", status(400)),
        ("/dir/../../dir/b.txt", status(400)),
        ("/%2e%2e/a.txt", status(400)),
        ("/%2e%2e%2fa.txt", status(400)),
        ("/..%2fa.txt", status(400)),
        ("/none/../../a.txt", status(400)),
        ("/a%", status(400)),
        ("/a%2", status(400)),
        ("/a%zz", status(400)),
        ("/a%2g", status(400)),
        ("/a% 2", status(400)),
        ("/%%41", status(400)),
        ("/a%2?", status(400)),
        ("/a%00", status(400)),
        ("/%00", status(400)),
        ("/a.txt%00", status(400)),
        ("/a%01", status(400)),
        ("/a%0a", status(400)),
        ("/a%0D%0Ab", status(400)),
        ("/a%1F", status(400)),
        ("/a%7f", status(400)),
        ("/a\0", status(400)),
        ("/a\x01", status(400)),
        ("/a\t", status(400)),
        ("/a\x1f", status(400)),
        ("/a\x7f", status(400)),
        ("/ü.txt", status(400)),
        ("/a.txt#", status(400)),
        ("/a.txt#part", status(400)),
        ("/#", status(400)),
        ("/a.txt?x#part", status(400)),
        ("/a b", status(400)),
    ]);
    let raw = [0x80_u8, 0xa0, 0xff].map(|byte| {
        let target = [b"/a".as_slice(), &[byte]].concat();
        case(format!("raw {byte:#x}"), get(target), status(400))
    });
    check(server(), raw);
}

#[test]
fn long_path_is_only_a_miss() {
    let long = format!("/{}", "a".repeat(5000));
    let many = format!("/{}", "a/".repeat(3000));
    let dots = format!("/{}a.txt", "./".repeat(3000));
    check_targets(&[(&long, status(404)), (&many, status(404)), (&dots, file("a.txt"))]);
}

#[test]
fn directory_serves_its_index() {
    check_targets(&[
        ("/", file("index.html")),
        ("/?x", file("index.html")),
        ("/.", file("index.html")),
        ("//", file("index.html")),
        ("/dir/..", file("index.html")),
        ("/index.html", file("index.html")),
        ("/dir/", file("dir/index.html")),
        ("/dir/.", file("dir/index.html")),
        ("/dir/./", file("dir/index.html")),
        ("/dir//", file("dir/index.html")),
        ("//dir/", file("dir/index.html")),
        ("/dir/x/..", file("dir/index.html")),
        ("/dir%2F", file("dir/index.html")),
        ("/sp%20dir/", file("sp dir/index.html")),
        ("/dir/index.html", file("dir/index.html")),
    ]);
}

#[test]
fn directory_without_slash_is_redirected() {
    let to = |location: &str| status(301).with("Location", location).with("Cache-Control", "max-age=1");
    check_targets(&[
        ("/dir", to("/dir/")),
        ("/dir?x=1&y", to("/dir/?x=1&y")),
        ("/dir?", to("/dir/?")),
        ("/dir?maxage=50", to("/dir/?maxage=50")),
        ("/dir?//evil", to("/dir/?//evil")),
        ("/dir?x=%0d%0aSet-Cookie:%20a", to("/dir/?x=%0d%0aSet-Cookie:%20a")),
        ("//dir", to("/dir/")),
        ("///dir?x", to("/dir/?x")),
        ("/./dir", to("/dir/")),
        ("/bare/../dir", to("/dir/")),
        ("/dir/x/../../dir", to("/dir/")),
        ("/%64ir", to("/dir/")),
        ("/%2Fdir", to("/dir/")),
        ("/sp%20dir", to("/sp%20dir/")),
        ("/%c3%bc", to("/%C3%BC/")),
        ("/50%25", to("/50%25/")),
        ("/we%3Fird", to("/we%3Fird/")),
        ("/we%3fird?x", to("/we%3Fird/?x")),
        ("/h%23sh", to("/h%23sh/")),
        ("/%5Cevil", to("/%5Cevil/")),
        ("http://other/dir?x", to("/dir/?x")),
    ]);
    let answer = server().get("/a&b=c;d", &[]);
    assert_eq!(answer.status, 301);
    let location = answer.get("location").unwrap();
    let again = server().get(location, &[]);
    assert_eq!(again.text(), "<a&b=c;d/index.html>", "{location}");
}

#[test]
fn redirect_of_head_has_no_body() {
    let head = with_host("HEAD", "/dir", &[], "");
    check(server(), [case("HEAD", head, status(301).with("Location", "/dir/"))]);
}

#[test]
fn there_is_no_listing() {
    check_targets(&[
        ("/bare", status(404)),
        ("/bare/", status(404)),
        ("/deep/", status(404)),
        ("/deep/er", status(404)),
        ("/none/", status(404)),
    ]);
    let site = Site::new();
    let server = Server::start(&site);
    check(&server, [case("no index at the root", get("/"), status(404))]);
}

#[test]
fn query_is_ignored_but_for_maxage() {
    check_targets(&[
        ("/a.txt?1230015976759", file("a.txt")),
        ("/a.txt?", file("a.txt")),
        ("/a.txt??", file("a.txt")),
        ("/a.txt?/../../x", file("a.txt")),
        ("/a.txt?x=%zz", file("a.txt")),
        ("/a.txt?x=%00%0a", file("a.txt")),
        ("/a.txt?format=json", file("a.txt")),
        ("/a.txt?symbol=x&rn=123", file("a.txt")),
        ("/a.txt?%6daxage=7", file("a.txt").with("Cache-Control", "max-age=120")),
        ("/a.txt?MAXAGE=7", file("a.txt").with("Cache-Control", "max-age=120")),
        ("/a.txt?maxage=7", file("a.txt").with("Cache-Control", "max-age=7")),
        ("/a.txt?x=1&maxage=7&y", file("a.txt").with("Cache-Control", "max-age=7")),
        ("/a.txt&maxage=7", status(404)),
    ]);
}

/// A site with a bit of everything that must stay hidden, and neighbours that must not.
fn site_with_secrets() -> Site {
    let site = Site::new();
    for name in [
        ".hidden",
        ".git/config",
        ".git/index.html",
        "dir/.hidden",
        "dir/.sub/x.txt",
        "dir/.well-known/x.txt",
        ".well-known/x.txt",
        ".well-known/.hidden",
        ".well-known/.sub/x.txt",
        "back~",
        "back.txt~",
        "up.tmp",
        "up.txt.tmp",
        "vi.swp",
        ".vi.txt.swp",
        "up.part",
        "#x#",
        "#x.txt#",
        "dir/up.tmp",
        "ok.tmp.txt",
        "~ok",
        "#ok",
        "ok#",
        "swp",
        "backup.tar.gz",
        "alone.br",
        "alone.zst",
        "quote.quotes",
        "dir/quote.quotes",
        "inner/c.txt",
    ] {
        site.file(name, format!("<{name}>"));
    }
    site
}

fn hidden(targets: &[&str]) -> Vec<Case> {
    let hidden = targets.iter().map(|t| case(*t, get(t), status(404)));
    hidden.collect()
}

#[test]
fn hidden_and_temporary_names_are_not_published() {
    let site = site_with_secrets();
    let server = Server::start(&site);
    let names = hidden(&[
        "/.hidden",
        "/%2ehidden",
        "/.git/config",
        "/.git",
        "/.git/",
        "/dir/.hidden",
        "/dir/.sub/x.txt",
        "/dir/.well-known/x.txt",
        "/.well-known/.hidden",
        "/.well-known/.sub/x.txt",
        "/back~",
        "/back.txt~",
        "/up.tmp",
        "/up.txt.tmp",
        "/vi.swp",
        "/.vi.txt.swp",
        "/up.part",
        "/%23x%23",
        "/%23x.txt%23",
        "/dir/up.tmp",
        "/quote.quotes",
        "/dir/quote.quotes",
    ]);
    check(&server, names);
    let shown = [
        ("/.well-known/x.txt", ".well-known/x.txt"),
        ("/ok.tmp.txt", "ok.tmp.txt"),
        ("/~ok", "~ok"),
        ("/%23ok", "#ok"),
        ("/ok%23", "ok#"),
        ("/swp", "swp"),
        ("/backup.tar.gz", "backup.tar.gz"),
        ("/alone.br", "alone.br"),
        ("/alone.zst", "alone.zst"),
    ];
    check(&server, shown.map(|(t, name)| case(t, get(t), file(name))));
}

#[test]
fn sidecars_and_mz_are_not_published_under_their_own_name() {
    let site = Site::new();
    let sound = Site::new();
    for (name, bytes) in [
        ("a.js", crate::wire4_codings::SCRIPT.repeat(400)),
        ("a.js.br", crate::wire4_codings::SCRIPT_BR.to_vec()),
        ("a.js.zst", crate::wire4_codings::SCRIPT_ZST.to_vec()),
        ("a.js.gz", crate::wire4_codings::gzip(&crate::wire4_codings::SCRIPT.repeat(400))),
        ("b.js.mz", crate::wire4_codings::gzip(b"<b.js>")),
        ("b.js.gz", crate::wire4_codings::gzip(b"<b.js>")),
    ] {
        site.file(name, &bytes);
        sound.file(name, bytes);
    }
    site.file("a.js.mz", "no deflate at all");
    for site in [site, sound] {
        let server = Server::start(&site);
        check(&server, hidden(&["/a.js.br", "/a.js.zst", "/a.js.gz", "/a.js.mz", "/b.js.mz", "/b.js.gz"]));
        check(&server, [case("alone it is the content", get("/b.js"), file("b.js"))]);
    }
}

#[test]
fn only_regular_files_are_published() {
    let site = Site::new();
    let made = Command::new("mkfifo").arg(site.data().join("fifo")).status();
    assert!(made.unwrap().success());
    let _socket = UnixListener::bind(site.data().join("socket")).unwrap();
    site.link("null", "/dev/null");
    let server = Server::start(&site);
    check(&server, hidden(&["/fifo", "/socket", "/null"]));
}

#[test]
fn symlinks_within_are_followed_and_those_that_lead_out_are_not() {
    let site = site_with_secrets();
    fs::write(site.outside().join("secret.txt"), "secret").unwrap();
    fs::create_dir(site.outside().join("elsewhere")).unwrap();
    fs::write(site.outside().join("elsewhere/secret.txt"), "secret").unwrap();
    let inside = site.data().join("inner/c.txt");
    site.file("..2024_11_14/conf.js", "<conf.js>")
        .link("..data", "..2024_11_14")
        .link("conf.js", "..data/conf.js")
        .link("within.txt", "inner/c.txt")
        .link("absolute.txt", inside)
        .link("twice.txt", "within.txt")
        .link("inner/up.txt", "../inner/c.txt")
        .link("linked", "inner")
        .link("out.txt", "../secret.txt")
        .link("out-by-steps.txt", "out.txt")
        .link("passwd", "/etc/passwd")
        .link("outdir", "../elsewhere")
        .link("up", "..")
        .link("to-hidden.txt", ".hidden")
        .link("to-temporary.txt", "up.tmp")
        .link("to-backup.txt", "back~")
        .link("to-quotes.txt", "quote.quotes")
        .link("to-hidden", ".git")
        .link("dangling.txt", "nothing")
        .link("loop.txt", "loop.txt")
        .link("inner/round", ".");
    let server = Server::start(&site);
    let inner = || file("inner/c.txt");
    check(
        &server,
        [
            case("Kubernetes", get("/conf.js"), file("conf.js")),
            case("file", get("/within.txt"), inner()),
            case("absolute", get("/absolute.txt"), inner()),
            case("two steps", get("/twice.txt"), inner()),
            case("up and down", get("/inner/up.txt"), inner()),
            case("directory", get("/linked/c.txt"), inner()),
        ],
    );
    check(
        &server,
        hidden(&[
            "/..data/conf.js",
            "/..2024_11_14/conf.js",
            "/out.txt",
            "/out-by-steps.txt",
            "/passwd",
            "/outdir/secret.txt",
            "/up/secret.txt",
            "/up/data/inner/c.txt",
            "/to-hidden.txt",
            "/to-temporary.txt",
            "/to-backup.txt",
            "/to-quotes.txt",
            "/to-hidden/config",
            "/dangling.txt",
            "/loop.txt",
        ]),
    );
}

#[test]
fn data_directory_may_be_a_symlink() {
    let site = Site::new();
    site.file("dir/b.txt", "<dir/b.txt>");
    let link = site.outside().join("link");
    std::os::unix::fs::symlink("data", &link).unwrap();
    site.link("within.txt", "dir/b.txt");
    let server = Server::builder(&site).data(link).start();
    check(
        &server,
        [case("file", get("/dir/b.txt"), file("dir/b.txt")), case("link", get("/within.txt"), file("dir/b.txt"))],
    );
}
