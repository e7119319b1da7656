//! A real browser over a copy of `data/`: the page shows the feed, and after an edit it shows the edit.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Server, Site, wait_until};

/// A browser starts slowly where others are at work.
pub(crate) const BROWSER_PATIENCE: Duration = Duration::from_secs(60);

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found =
        std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|path| path.exists());
    found.expect("tools/test installs a browser (apt-get install chromium)")
}

/// A browser's profile and all else it writes, and its processes: both are gone with the value.
pub(crate) struct Browser {
    home: PathBuf,
}

impl Browser {
    pub(crate) fn new(site: &Site) -> Browser {
        let home = site.outside().join("browser");
        fs::create_dir(&home).unwrap();
        Browser { home }
    }

    /// Adds the browser, and flags and surroundings that keep it to itself, to a command.
    pub(crate) fn command(&self, command: &mut Command) {
        command.arg(chromium());
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-breakpad"]);
        command.args(["--disable-background-networking", "--disable-dev-shm-usage", "--no-proxy-server"]);
        command.arg(format!("--user-data-dir={}", self.home.join("profile").display()));
        command.env("HOME", &self.home).env("TMPDIR", &self.home).env("XDG_CONFIG_HOME", self.home.join("config"));
        command.env("XDG_CACHE_HOME", self.home.join("cache")).env("XDG_RUNTIME_DIR", &self.home);
        command.process_group(0);
    }

    /// Loads a page, lets its scripts run for some seconds of their own time, and returns the document they made.
    fn dom(&self, url: &str) -> String {
        let dom = self.home.join("dom.html");
        let mut command = Command::new("env");
        self.command(&mut command);
        command.args(["--virtual-time-budget=4000", "--dump-dom", url]);
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(fs::File::create(&dom).unwrap());
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + BROWSER_PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    child.kill().ok();
                    child.wait().ok();
                    panic!("the browser does not end");
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "the browser: {status}");
        fs::read_to_string(&dom).unwrap()
    }

    /// Processes that have the profile on their command line or in their environment: the browser's own, whoever forked
    /// them.
    fn processes(&self) -> Vec<u32> {
        let needle = self.home.to_str().unwrap().as_bytes();
        let is_ours = |pid: &u32| {
            let words = ["cmdline", "environ"].map(|file| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
            words.concat().windows(needle.len()).any(|window| window == needle)
        };
        let numbers =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(is_ours).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        for pid in self.processes() {
            Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status().ok();
        }
        let deadline = Instant::now() + BROWSER_PATIENCE;
        while !self.processes().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        fs::remove_dir_all(&self.home).ok();
    }
}

/// A directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The text of a document: its tags are taken out, runs of white space made one space.
fn text(dom: &str) -> String {
    let body = dom.split_once("<body").map_or(dom, |(_, body)| body);
    let texts = body.split('<').map(|piece| piece.split_once('>').map_or("", |(_, text)| text));
    texts.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The fields of a match in `scores.js`.
fn fields<'s>(scores: &'s str, id: &str) -> Vec<&'s str> {
    let line = scores.lines().find(|line| line.starts_with(&format!("var hq_score_{id}="))).unwrap();
    line.split('"').nth(1).unwrap().split(',').collect()
}

/// A match as the page shows it: what lies between the two clubs' names.
#[track_caller]
fn assert_shows(page: &str, scores: &str, id: &str) {
    let fields = fields(scores, id);
    let (home, away, goals, ground) = (fields[0], fields[1], &fields[2..4], fields[7]);
    let board = page.split_once("From the grounds").map_or(page, |(board, _)| board);
    let card = board.split_once(&format!(" {ground}")).map(|(_, card)| card);
    let card = card.unwrap_or_else(|| panic!("{ground} is not in {board}"));
    let (_, at_home) = card.split_once(&format!("{home} {} ", goals[0])).unwrap_or_else(|| panic!("{home} in {card}"));
    assert!(at_home.contains(&format!("{away} {}", goals[1])), "{away} {} is not in {at_home}", goals[1]);
}

#[test]
fn a_browser_shows_the_feed_and_its_changes() {
    let site = Site::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data"), site.data());
    let server = Server::start(&site);
    let browser = Browser::new(&site);
    let url = format!("http://{}/", server.addr);
    let file = site.data().join("scores.js");
    let scores = fs::read_to_string(&file).unwrap();
    let page = text(&browser.dom(&url));
    for id in ["lc1601", "lc1602", "lc1604", "lc1606", "ms0801"] {
        assert_shows(&page, &scores, id);
    }
    let feed = fs::read_to_string(site.data().join("feed.json")).unwrap();
    let titles = feed.split("\"title\": \"").skip(2).take(3).filter_map(|rest| rest.split('"').next());
    for title in titles {
        assert!(page.contains(title), "{title} is not in {page}");
    }

    let edited = scores.replace("Northgate Rovers,云港海鸥,2,1,", "Northgate Rovers,云港海鸥,7,6,");
    let edited = edited.replace("白鹭城,Ørsund BK,1,1,", "白鹭城,Ørsund BK,1,9,");
    assert_ne!(edited, scores);
    fs::write(&file, &edited).unwrap();
    wait_until("the edit is served", || server.get("/scores.js", &[]).text() == edited);
    // Until then its own copy may be as old as the page allows: two seconds.
    let deadline = Instant::now() + BROWSER_PATIENCE;
    let mut page = text(&browser.dom(&url));
    while !page.contains("Northgate Rovers 7 ") && Instant::now() < deadline {
        page = text(&browser.dom(&url));
    }
    for id in ["lc1601", "lc1602", "lc1604"] {
        assert_shows(&page, &edited, id);
    }
    assert!(!page.contains("Northgate Rovers 2 "), "an old score is still shown");
    assert!(server.stderr().is_empty(), "{}", server.stderr());
    let home = browser.home.clone();
    drop(browser);
    assert!(!home.exists());
}
