//! The program ticker from outside: tables that are always whole, the socket's side of a feed, what is refused and how.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use crate::harness::{PATIENCE, Server, Site, own_address, wait_until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ticker");

/// Runs it in the site's data directory until it ends.
fn ticker(site: &Site, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).current_dir(site.data()).stdin(Stdio::null()).output().unwrap()
}

/// Runs it and insists that it goes well and says nothing on standard error.
#[track_caller]
fn well(site: &Site, arguments: &[&str]) -> String {
    let output = ticker(site, arguments);
    assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A ticker that goes on, killed with the value.
struct Running(Child);

impl Running {
    fn start(site: &Site, arguments: &[&str]) -> Running {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(site.data());
        Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Waits for its end and gives what it said on standard error.
    fn end(mut self) -> (ExitStatus, String) {
        wait_until("the ticker ends", || self.0.try_wait().unwrap().is_some());
        (self.0.wait().unwrap(), self.said())
    }

    fn kill(mut self) -> String {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        self.said()
    }

    fn said(&mut self) -> String {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The symbols of a table or a batch, each of whose lines is a whole quote of the full form.
#[track_caller]
fn symbols(table: &str) -> Vec<String> {
    assert!(table.ends_with('\n'), "{table}");
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let symbol = |line: &str| {
        let (symbol, payload) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        assert!(payload.split(',').count() == 33 && payload.ends_with(",00"), "{line}");
        symbol.to_owned()
    };
    lines.map(symbol).collect()
}

#[test]
fn the_same_market_to_a_file_and_to_standard_output() {
    let site = Site::new();
    assert_eq!(well(&site, &["--once", "-n", "40", "--seed", "5", "--file", "a.quotes"]), "");
    let table = fs::read_to_string(site.data().join("a.quotes")).unwrap();
    assert_eq!(symbols(&table).len(), 40);
    assert_eq!(well(&site, &["--once", "-n", "40", "--seed", "5"]), format!("{table}\n"));
    assert_ne!(well(&site, &["--once", "-n", "40", "--seed", "6"]), format!("{table}\n"));

    let walk = ["-n", "40", "--ticks", "4", "--every", "0.001", "--share", "25", "--batch", "7"];
    let batches = well(&site, &walk);
    assert_eq!(batches, well(&site, &walk));
    let lengths: Vec<usize> = batches.split_terminator("\n\n").map(|batch| batch.lines().count()).collect();
    assert_eq!(lengths, [7, 7, 7, 7, 7, 5, 7, 3, 7, 3, 7, 3], "the whole market, then three times a quarter of it");

    let short = well(&site, &["--once", "-n", "9", "--form", "short"]);
    assert!(short.trim_end().lines().all(|line| line.starts_with("s_") && line.split(',').count() == 6), "{short}");
}

#[test]
fn whoever_reads_the_file_meanwhile_finds_it_whole() {
    let site = Site::new();
    let path = site.data().join("a.quotes");
    let running = Running::start(&site, &["-n", "300", "--file", "a.quotes", "--every", "0.001"]);
    wait_until("the table is there", || path.exists());
    let mut tables = Vec::new();
    wait_until("many tables were read", || {
        let table = fs::read_to_string(&path).unwrap();
        assert_eq!(symbols(&table).len(), 300);
        tables.push(table);
        tables.dedup();
        tables.len() > 50
    });
    assert_eq!(running.kill(), "");

    // What a killed one left behind is in nobody's way, and nothing is left by one that ends.
    fs::write(site.data().join(".a.quotes.ticker"), "half a li").unwrap();
    well(&site, &["-n", "2", "--file", "a.quotes", "--ticks", "3", "--every", "0.001"]);
    assert_eq!(symbols(&fs::read_to_string(&path).unwrap()).len(), 2);
    assert!(!site.data().join(".a.quotes.ticker").exists());
}

#[test]
fn a_file_is_renamed_or_rewritten_as_it_lies() {
    let site = Site::new();
    let path = site.data().join("a.quotes");
    let inode = || path.metadata().unwrap().ino();
    well(&site, &["-n", "3", "--once", "--file", "a.quotes"]);
    let held = File::open(&path).unwrap();
    well(&site, &["-n", "3", "--once", "--file", "a.quotes"]);
    assert_ne!(inode(), held.metadata().unwrap().ino());
    let before = inode();
    well(&site, &["-n", "2", "--once", "--in-place", "--file", "a.quotes"]);
    assert_eq!(inode(), before);
    assert_eq!(symbols(&fs::read_to_string(&path).unwrap()).len(), 2);
}

#[test]
fn the_sample_market_walks_and_keeps_its_comments() {
    let site = Site::new();
    let sample = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/market.quotes")).unwrap();
    site.file("market.quotes", &sample);
    let flags = ["--from", "market.quotes", "--file", "market.quotes", "--share", "30"];
    well(&site, &[&flags[..], &["--ticks", "9", "--every", "0.001"]].concat());
    let walked = fs::read_to_string(site.data().join("market.quotes")).unwrap();
    assert_eq!(symbols(&walked), symbols(&sample));
    assert_eq!(walked.lines().count(), sample.lines().count());
    let kept = sample.lines().zip(walked.lines()).filter(|(before, after)| before == after).count();
    assert!((10..sample.lines().count() - 9).contains(&kept), "{kept} lines stayed as they were");
    for (before, after) in sample.lines().zip(walked.lines()).filter(|(before, _)| before.contains(",00")) {
        let [before, after] = [before, after].map(|line| line.split(',').collect::<Vec<_>>());
        assert_eq!((before[0], before[2]), (after[0], after[2]), "name and previous close");
    }
}

#[test]
fn wrong_flags_are_told_in_a_line() {
    let site = Site::new();
    for (arguments, why) in [
        (&["--bogus"][..], "unexpected argument '--bogus'"),
        (&["--symbols", "0"], "--symbols is 0"),
        (&["--symbols", "100001"], "--symbols is 100001"),
        (&["--symbols", "many"], "invalid value 'many'"),
        (&["--form", "long"], "invalid value 'long'"),
        (&["--every", "0"], "--every is 0"),
        (&["--every", "nan"], "--every is NaN"),
        (&["--share", "101"], "--share is 101"),
        (&["--ticks", "0"], "--ticks is 0"),
        (&["--batch", "0"], "--batch is 0"),
        (&["--rate", "0"], "--rate is 0"),
        (&["--rate", "inf"], "--rate is inf"),
        (&["--rate", "5", "--every", "2"], "cannot be used with"),
        (&["--once", "--ticks", "3"], "cannot be used with"),
        (&["--file", "a", "--socket", "b"], "cannot be used with"),
        (&["--file", "a", "--rate", "5"], "cannot be used with"),
        (&["--from", "a", "--symbols", "5"], "cannot be used with"),
        (&["--in-place"], "--file"),
        (&["a.quotes"], "unexpected argument 'a.quotes'"),
    ] {
        let output = ticker(&site, arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(
            said.starts_with("ticker: ") && said.contains(why) && said.lines().count() == 1,
            "{arguments:?}: {said}"
        );
    }
    let help = well(&site, &["--help"]);
    assert!(help.contains("--socket") && help.contains("Exit status"), "{help}");
}

#[test]
fn what_cannot_begin_is_told_in_a_line() {
    let site = Site::new();
    site.file("scores.quotes", "a=1,2,3\n").file("latin.quotes", b"a=\xe9\n");
    for (arguments, why) in [
        (&["--once", "--file", "gone/a.quotes"][..], "gone/a.quotes: No such file"),
        (&["--once", "--file", "gone/a.quotes", "--in-place"], "gone/a.quotes: No such file"),
        (&["--once", "--file", "."], ".: is a directory"),
        (&["--once", "--file", "alive.txt/a.quotes"], "alive.txt/a.quotes: Not a directory"),
        (&["--socket", "gone.sock"], "gone.sock: No such file"),
        (&["--socket", "alive.txt"], "alive.txt: Connection refused"),
        (&["--from", "gone.quotes"], "gone.quotes: No such file"),
        (&["--from", "scores.quotes"], "scores.quotes: no quote of the full or the short form"),
        (&["--from", "latin.quotes"], "latin.quotes: "),
    ] {
        let output = ticker(&site, arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.starts_with(&format!("ticker: {why}")) && said.lines().count() == 1, "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let site = Site::new();
    let mut running = Running::start(&site, &["-n", "100", "--every", "0.001"]);
    let mut reader = BufReader::new(running.0.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let (status, said) = running.end();
    assert!(status.success() && said.is_empty(), "{status}: {said}");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(PROGRAM).arg("--once").stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("ticker: standard output: No space left"), "{said}");
}

/// A server's end of the socket.
struct Socket {
    listener: UnixListener,
}

impl Socket {
    fn bind(site: &Site) -> Socket {
        let listener = UnixListener::bind(site.data().join("feed.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Socket { listener }
    }

    fn accept(&self) -> BufReader<UnixStream> {
        let mut stream = None;
        wait_until("the ticker connects", || {
            stream = self.listener.accept().ok().map(|(stream, _)| stream);
            stream.is_some()
        });
        let stream = stream.unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }
}

/// The next batch: its symbols, without the blank line.
fn batch(feed: &mut BufReader<UnixStream>) -> Vec<String> {
    let mut lines = String::new();
    while feed.read_line(&mut lines).unwrap() > 0 && !lines.ends_with("\n\n") {}
    assert!(lines.ends_with("\n\n"), "the feed ends within a batch: {lines}");
    symbols(&lines)
}

#[test]
fn a_socket_gets_the_whole_market_and_then_what_changes() {
    let site = Site::new();
    let socket = Socket::bind(&site);
    let flags = ["--socket", "feed.sock", "-n", "50", "--share", "10", "--ticks", "20", "--every", "0.001"];
    let running = Running::start(&site, &flags);
    let mut feed = socket.accept();
    let all = batch(&mut feed);
    assert_eq!(all.len(), 50);
    for answer in ["line 3: no symbol\n", "line 3: no symbol\n", "line 9: too long\n"] {
        feed.get_mut().write_all(answer.as_bytes()).unwrap();
    }
    for _ in 1..20 {
        let changed = batch(&mut feed);
        assert!(changed.len() == 5 && changed.iter().all(|symbol| all.contains(symbol)), "{changed:?}");
    }
    assert_eq!(feed.read(&mut [0]).unwrap(), 0, "it says that nothing follows");
    feed.get_mut().write_all(b"the last word\n").unwrap();
    drop(feed);
    let (status, said) = running.end();
    assert!(status.success());
    let told = ["line 3: no symbol", "line 9: too long", "the last word"];
    assert_eq!(said, told.map(|what| format!("ticker: the server says: {what}\n")).concat());
}

#[test]
fn updates_at_a_rate_come_in_batches() {
    let site = Site::new();
    let socket = Socket::bind(&site);
    for (flags, lengths) in [
        (&["--rate", "5000", "--batch", "8"][..], [8, 8, 4, 8, 8, 8]),
        (&["--rate", "500"], [5, 5, 5, 5, 5, 5]),
        // No batch is larger than the market.
        (&["--rate", "900000"], [20; 6]),
    ] {
        let running = Running::start(&site, &[&["--socket", "feed.sock", "-n", "20"], flags].concat());
        let mut feed = socket.accept();
        assert_eq!(lengths.map(|_| batch(&mut feed).len()), lengths);
        running.kill();
    }
}

#[test]
fn a_server_that_goes_and_comes_back_gets_the_whole_market_again() {
    let site = Site::new();
    let path = site.data().join("feed.sock");
    let mut socket = Socket::bind(&site);
    let running = Running::start(&site, &["--socket", "feed.sock", "-n", "30", "--share", "10", "--every", "0.001"]);
    for _ in 0..2 {
        let mut feed = socket.accept();
        assert_eq!([0; 3].map(|_| batch(&mut feed).len()), [30, 3, 3]);
        feed.get_mut().write_all(b"error: go away\n").unwrap();
        drop((feed, socket));
        fs::remove_file(&path).unwrap();
        socket = Socket::bind(&site);
    }
    assert_eq!(batch(&mut socket.accept()).len(), 30);
    let said = running.kill();
    let lines: Vec<&str> = said.lines().collect();
    let told = |what| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("error: go away"), 1, "{said}");
    assert!(told("waiting for a server") >= 1 && told("connected again") >= 1, "{said}");

    // Who is told to write once does not wait for another server.
    fs::remove_file(&path).unwrap();
    let socket = Socket::bind(&site);
    let running = Running::start(&site, &["--socket", "feed.sock", "-n", "100000", "--once"]);
    drop(socket.accept());
    let (status, said) = running.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.starts_with("ticker: feed.sock: ") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_server_shows_what_a_ticker_feeds_it_also_when_it_comes_back() {
    let site = Site::new();
    let config = site.outside().join("cloudia.toml");
    let socket = site.outside().join("feed.sock");
    fs::write(&config, format!("[quotes]\nsocket = {socket:?}\n")).unwrap();
    let address = own_address();
    let start = || Server::builder(&site).listen(address).flag("--config", config.display()).start();
    let mut server = start();
    let socket = socket.to_str().unwrap();

    let market = well(&site, &["--once", "-n", "60", "--seed", "8"]);
    well(&site, &["--once", "-n", "60", "--seed", "8", "--socket", socket]);
    let list = format!("/list={}", symbols(&market).join(","));
    let statement = |line: &str| {
        let (symbol, payload) = line.split_once('=').unwrap();
        format!("var hq_str_{symbol}=\"{payload}\";\n")
    };
    let script: String = market.lines().filter(|line| !line.is_empty()).map(statement).collect();
    wait_until("the market is shown", || server.get(&list, &[]).text() == script);

    let flags = ["--socket", socket, "-n", "60", "--seed", "8", "--rate", "2000", "--batch", "4"];
    let running = Running::start(&site, &flags);
    let walks = |server: &Server| {
        let before = server.get(&list, &[]).text();
        wait_until("the market walks", || {
            let script = server.get(&list, &[]).text();
            assert_eq!(script.lines().count(), 60);
            script != before && !script.contains("\"\"")
        });
    };
    walks(&server);
    server.kill();
    walks(&start());
    let said = running.kill();
    assert!(said.contains("waiting for a server") && !said.contains("the server says"), "{said}");
}
