//! The program crowd from outside: browsers against a real server, and against one whose answers are made up.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    crowd::{metric, side_by_side},
    harness::{OLD_DATE, Server, Site, wait_until},
};

/// The program, built like the server: what is tested as a program is not built as one beside the tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let beside = Path::new(env!("CARGO_BIN_EXE_cloudia")).parent().unwrap();
        let profile = beside.file_name().unwrap().to_str().unwrap();
        let mut target = beside.parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--example", "crowd"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        cargo.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
        let triple = target.file_name().unwrap().to_str().unwrap();
        if triple.contains("-linux-") {
            cargo.args(["--target", triple]);
            target = target.parent().unwrap();
        }
        let built = cargo.arg("--target-dir").arg(target).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        beside.join("examples/crowd")
    })
}

fn crowd(mode: &str, addr: SocketAddr, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args([mode, "--addr", &addr.to_string()]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it reports, once it has ended well and said nothing else.
#[track_caller]
fn report(output: &Output) -> Value {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A server that answers as it is told, whatever it is asked.
struct Fake {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request, and when it had come.
#[derive(Clone)]
struct Asked {
    at: Instant,
    /// Of those that were made.
    connection: usize,
    text: String,
}

impl Asked {
    fn path(&self) -> &str {
        self.text.split(' ').nth(1).unwrap()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

impl Fake {
    /// `answer` gives the answer to a request, which is the `n`th of its connection and the `m`th of all. The connection is
    /// closed behind an answer that is empty or ends with a NUL, which is not sent.
    fn start(answer: impl Fn(usize, usize) -> String + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Fake { addr: listener.local_addr().unwrap(), asked: Arc::default() };
        let (asked, answer) = (fake.asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (asked, answer) = (asked.clone(), answer.clone());
                thread::spawn(move || Fake::serve(stream, connection, &asked, &*answer));
            }
        });
        fake
    }

    fn serve(
        mut stream: TcpStream,
        connection: usize,
        asked: &Mutex<Vec<Asked>>,
        answer: &dyn Fn(usize, usize) -> String,
    ) {
        let (mut held, mut buffer, mut own) = (String::new(), [0; 4096], 0);
        while let Ok(got @ 1..) = stream.read(&mut buffer) {
            held.push_str(std::str::from_utf8(&buffer[..got]).unwrap());
            if !held.ends_with("\r\n\r\n") {
                continue;
            }
            let all = {
                let mut asked = asked.lock().unwrap();
                asked.push(Asked { at: Instant::now(), connection, text: std::mem::take(&mut held) });
                asked.len() - 1
            };
            let text = answer(own, all);
            own += 1;
            let bytes = text.trim_end_matches('\0');
            if stream.write_all(bytes.as_bytes()).is_err() || bytes.is_empty() || bytes.len() < text.len() {
                return;
            }
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What so many browsers report that are ended by a signal once so many requests have come.
    fn browsed(&self, connections: usize, requests: usize, arguments: &[&str]) -> Value {
        let connections = connections.to_string();
        let mut command = crowd("browse", self.addr, &["--json", "--seconds", "600", "--connections", &connections]);
        let mut child = command.args(arguments).spawn().unwrap();
        wait_until("it has asked", || self.asked().len() >= requests || child.try_wait().unwrap().is_some());
        report(&interrupt(child))
    }
}

fn interrupt(child: Child) -> Output {
    // Where it has ended already, what it said tells why.
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    child.wait_with_output().unwrap()
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn stamped(date: &str) -> String {
    ok(&format!("Last-Modified: {date}\r\n"), "hello")
}

const NOT_MODIFIED: &str = "HTTP/1.1 304 Not Modified\r\n\r\n";

#[test]
fn a_real_server_is_polled_when_max_age_is_over_and_says_304() {
    let site = Site::new();
    let body = "a line that is polled\n".repeat(100);
    site.file("polled.txt", &body);
    let server = Server::start(&site);
    let before = metric(&server, "cloudia_requests_total");
    let words = ["--path", "/polled.txt?maxage=1", "--every", "0.3", "--seconds", "2.5", "--connections", "20"];
    let output =
        crowd("browse", server.addr, &["--json", "--threads", "2", "--sources", "3"]).args(words).output().unwrap();
    let report = report(&output);
    let count = |name: &str| report[name].as_u64().unwrap();
    assert!(count("failed") == 0 && count("unanswered") == 0 && count("open") == 20, "{report:#}");
    assert_eq!((count("connected"), &report["answers"]["200"]), (20, &Value::from(20)), "{report:#}");
    let not_modified = report["answers"]["304"].as_u64().unwrap_or(0);
    assert!(not_modified > 0, "{report:#}");
    assert_eq!(metric(&server, "cloudia_requests_total") - before, count("requests"));
    assert_eq!(count("requests"), 20 + not_modified);
    // Every one comes at most once for each second that is over, and once at the beginning.
    let seconds = report["elapsed"].as_f64().unwrap() as u64;
    assert!(count("requests") <= 20 * (seconds + 1), "{report:#}");
    let encoded = server.get("/polled.txt", &["Accept-Encoding: gzip, deflate, br, zstd"]).body.len() as u64;
    assert_eq!((count("body_bytes"), count("saved_bytes")), (20 * encoded, not_modified * encoded));
    let histogram = report["histogram_us"].as_array().unwrap();
    assert_eq!(histogram.iter().map(|step| step[1].as_u64().unwrap()).sum::<u64>(), count("requests"));
    assert!(report["latency_us"]["p50"].as_u64() <= report["latency_us"]["max"].as_u64());
}

#[test]
fn no_poll_is_early_and_what_came_is_echoed() {
    let etag = "W/\"any thing\"";
    let fields = format!("ETag: {etag}\r\nLast-Modified:  {OLD_DATE}\r\nCache-Control: public, max-age=1\r\n");
    for only_ims in [false, true] {
        let fields = fields.clone();
        let fake = Fake::start(move |own, _| {
            if own == 0 {
                ok(&fields, "hello")
            } else {
                NOT_MODIFIED.replace("\r\n\r\n", "\r\nCache-Control: max-age=1\r\n\r\n")
            }
        });
        let mut words = vec!["--every", "0.01", "--header", "accept-language: tlh"];
        words.extend(only_ims.then_some("--only-ims"));
        fake.browsed(3, 9, &words);
        let asked = fake.asked();
        for connection in 0..3 {
            let polls: Vec<_> = asked.iter().filter(|asked| asked.connection == connection).collect();
            assert!(polls.len() > 1, "each comes in its turn");
            for pair in polls.windows(2) {
                assert!(pair[1].at - pair[0].at >= Duration::from_secs(1), "a poll before the answer was old");
                assert_eq!(pair[1].field("If-Modified-Since"), Some(OLD_DATE));
                assert_eq!(pair[1].field("If-None-Match"), (!only_ims).then_some(etag));
            }
            assert_eq!((polls[0].field("If-Modified-Since"), polls[0].field("If-None-Match")), (None, None));
            assert!(polls[0].field("User-Agent").is_some_and(|agent| agent.contains("Chrome")), "{}", polls[0].text);
            assert_eq!((polls[0].field("Accept-Language"), polls[0].field("accept-language")), (None, Some("tlh")));
        }
    }
}

#[test]
fn each_path_of_a_browser_has_a_time_of_its_own_on_one_connection() {
    let fake = Fake::start(|_, _| ok("", "hello"));
    let report = fake.browsed(1, 20, &["--path", "/a", "--path", "/b", "--every", "0.02", "--bare"]);
    let asked = fake.asked();
    assert!(asked.iter().all(|asked| asked.connection == 0));
    for path in ["/a", "/b"] {
        assert!(asked.iter().filter(|asked| asked.path() == path).count() > 5, "{report:#}");
    }
    assert_eq!(asked[0].text.lines().count(), 3, "bare is a line, Host and the end: {}", asked[0].text);
    assert_eq!(report["paths"], serde_json::json!(["/a", "/b"]));
}

#[test]
fn a_wrong_answer_is_told_by_its_name() {
    type Answer = fn(usize, usize) -> String;
    let wrong: [(&str, Answer); 9] = [
        ("cut short", |_, _| "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello\0".into()),
        ("closed early", |_, _| String::new()),
        ("more than was announced", |_, _| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello".into()),
        ("malformed", |_, _| "HTTP/1.1 200 OK\r\n\r\n".into()),
        ("304 with a body", |own, _| if own == 0 { stamped(OLD_DATE) } else { NOT_MODIFIED.to_owned() + "hello" }),
        ("304 to no condition", |_, _| NOT_MODIFIED.into()),
        ("Last-Modified went back", |_, all| {
            stamped(if all.is_multiple_of(2) { OLD_DATE } else { "Mon, 13 Nov 2023 22:13:20 GMT" })
        }),
        ("Last-Modified is no date", |_, _| stamped("yesterday")),
        ("timeout", |_, all| if all == 0 { "HTTP/1.1 200 OK\r\n".into() } else { stamped(OLD_DATE) }),
    ];
    side_by_side(wrong.len(), |number| {
        let (name, answer) = wrong[number];
        let fake = Fake::start(answer);
        let report =
            fake.browsed(1, 4, &["--every", "0.02", "--timeout", if name == "timeout" { "0.1" } else { "10" }]);
        let failures: Vec<_> = report["failures"].as_object().unwrap().keys().collect();
        assert_eq!(failures, [name], "{report:#}");
    });
}

#[test]
fn a_connection_that_the_server_closes_is_made_anew_and_nothing_has_failed() {
    let kinds: [fn(usize, usize) -> String; 3] = [
        |_, _| stamped(OLD_DATE) + "\0",
        |_, _| stamped(OLD_DATE).replace("Last-", "Connection: close\r\nLast-"),
        // It closes when the second request has come, as if both had crossed.
        |own, _| if own == 0 { stamped(OLD_DATE) } else { String::new() },
    ];
    side_by_side(kinds.len(), |kind| {
        let fake = Fake::start(kinds[kind]);
        let report = fake.browsed(1, 6, &["--every", "0.02"]);
        assert_eq!(report["failed"], 0, "{report:#}");
        assert!(report["reconnects"].as_u64() >= Some(2), "{report:#}");
        assert_eq!(report["retries"].as_u64() > Some(0), kind == 2, "{report:#}");
        assert_eq!(fake.asked()[2].field("If-Modified-Since"), Some(OLD_DATE), "what it knows outlives the connection");
    });
}

#[test]
fn who_waits_sees_progress_and_a_file_sees_the_report_alone() {
    let fake = Fake::start(|_, _| ok("Cache-Control: no-store, max-age=600\r\n", "hello"));
    let words = ["--every", "0.05", "--seconds", "0.6", "--connections", "2"];
    let output = crowd("browse", fake.addr, &words).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["2 browsers at 127.0.0.1:", "failed    0\n", " × 200", "p99.9 ", "█"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains(['\r', '\x1b']) && !text.contains(" connected, "), "{text}");

    let command = format!("{} browse --addr {} {}", program().display(), fake.addr, words.join(" "));
    let drawn = Command::new("script").args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let drawn = String::from_utf8_lossy(&drawn.stdout).into_owned();
    assert!(drawn.contains("2 connected, ") && drawn.contains("failed    0"), "{drawn}");
}

#[test]
fn a_mix_is_asked_for_from_a_file() {
    let site = Site::new();
    let fake = Fake::start(|_, _| ok("", "hello"));
    let file = site.outside().join("mix");
    std::fs::write(&file, "/a\n# not this\n/b\tIf-Modified-Since: never\n/c\n").unwrap();
    let words = ["--rate", "100", "--seconds", "0.5", "--connections", "1", "--requests", file.to_str().unwrap()];
    let report = report(&crowd("poll", fake.addr, &words).output().unwrap());
    assert!(report["requests"] == report["answers"]["200"] && report["failed"] == 0, "{report:#}");
    let asked = fake.asked();
    assert!(asked.len() > 6, "{report:#}");
    for (number, asked) in asked.iter().enumerate() {
        assert_eq!(asked.path(), ["/a", "/b", "/c"][number % 3]);
        assert_eq!(asked.field("If-Modified-Since"), (number % 3 == 1).then_some("never"));
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let refused = |output: Output, code: i32, remedy: &str| {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && said.contains(remedy) && output.stdout.is_empty(), "{said}");
    };
    // Nobody listens there as long as this holds the port.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 2], held.local_addr().unwrap().port()));
    refused(crowd("browse", addr, &["--every", "0.1"]).output().unwrap(), 1, "nobody listens on 127.0.0.2:");
    refused(crowd("browse", "192.0.2.1:80".parse().unwrap(), &[]).output().unwrap(), 2, "not a loopback address");
    refused(crowd("browse", addr, &["--every", "0"]).output().unwrap(), 2, "--every is positive");
    refused(crowd("poll", addr, &["--path", "/a", "--path", "/b"]).output().unwrap(), 2, "one --path");
    refused(crowd("poll", addr, &["--requests", "/dev/null"]).output().unwrap(), 1, "/dev/null holds no request");
    let limited = format!("ulimit -n 64; exec '{}' browse --connections 100", program().display());
    refused(Command::new("sh").args(["-c", &limited]).output().unwrap(), 1, "take --threads 4, or raise it");
}
