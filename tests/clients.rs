//! Foreign clients and foreign decoders: curl, and Python's zlib and gzip.

use std::process::{Command, Output};

use crate::harness::{Server, Site, at};

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn site() -> (Site, String) {
    let content: String = (0..5000).map(|line| format!("var hq_str_{}=\"{line}\";\n", line % 97)).collect();
    let site = Site::new();
    site.file("a.js", &content).mtime("a.js", at(1_000_000_000));
    (site, content)
}

fn url(server: &Server, path: &str) -> String {
    let stdout = server.stdout();
    let line = stdout.lines().find_map(|line| line.strip_prefix("listen")).unwrap();
    format!("{}{path}", line.trim().trim_end_matches('/'))
}

#[test]
fn curl_decodes_resumes_and_revalidates() {
    let (site, content) = site();
    let server = Server::start(&site);
    let url = url(&server, "/a.js");
    let curl =
        |arguments: &[&str]| run("curl", &[&["-sS", "--max-time", "20"], arguments, &[url.as_str()]].concat()).stdout;
    assert_eq!(curl(&["--compressed"]), content.as_bytes());
    assert_eq!(curl(&[]), content.as_bytes());
    assert_eq!(curl(&["-r", "10-29"]), &content.as_bytes()[10..30]);
    assert_eq!(curl(&["-C", "1000"]), &content.as_bytes()[1000..]);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let since = ["-z", "Sun, 09 Sep 2001 01:46:40 GMT"];
    assert_eq!(curl(&[&status[..], &since].concat()), b"304");
    assert_eq!(curl(&[&status[..], &["-X", "DELETE"]].concat()), b"405");
    assert_eq!(curl(&[&status[..], &["-d", "form=data"]].concat()), b"405");
    assert_eq!(curl(&[&status[..], &["--http1.0"]].concat()), b"200");
    assert_eq!(curl(&[&status[..], &["-I"]].concat()), b"200");
}

#[test]
fn python_decodes_both_framings() {
    const DECODE: &str = "
import gzip, sys, urllib.request, zlib
for coding, decode in (('gzip', gzip.decompress), ('deflate', zlib.decompress)):
    request = urllib.request.Request(sys.argv[1], headers={'Accept-Encoding': coding})
    answer = urllib.request.urlopen(request, timeout=20)
    assert answer.headers['Content-Encoding'] == coding, answer.headers
    sys.stdout.buffer.write(decode(answer.read()))
";
    let (site, content) = site();
    let server = Server::start(&site);
    let decoded = run("python3", &["-c", DECODE, &url(&server, "/a.js")]).stdout;
    assert_eq!(decoded, content.repeat(2).as_bytes());
}
