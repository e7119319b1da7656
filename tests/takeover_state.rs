//! What a server knows and the disk does not: quotes that feeders sent, and the dates under which files were served. It goes
//! over to whoever takes the server's place.

use std::{
    collections::HashMap,
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use crate::{
    conn::parse_date,
    harness::{Launch, OLD, OLD_DATE, Server, Site, at, now, own_address, wait_until},
    pollers::{Judge, Manner, Pollers},
    quotes::{ask, full_quote, line, list, metric, script, symbols, table, wait_for_quotes, with_settings},
    quotes_socket::{Feeder, settings},
    stop::LONG_GRACE,
    takeover::{founder, heir},
};

/// A site whose servers take feeders, with or without a snapshot.
struct Place {
    site: Site,
    socket: PathBuf,
    settings: String,
    snapshot: PathBuf,
}

impl Place {
    fn new(keeps: bool) -> Place {
        let site = Site::new();
        let (socket, snapshot) = (site.outside().join("feed"), site.outside().join("kept"));
        let mut settings = settings(&socket);
        if keeps {
            settings += &format!("snapshot = \"{}\"\n", snapshot.display());
        }
        Place { site, socket, settings, snapshot }
    }

    fn launch(&self) -> Launch {
        with_settings(&self.site, &self.settings).flag("--grace", LONG_GRACE)
    }

    fn founder(&self) -> Server {
        self.launch().listen(own_address()).admin(own_address()).start()
    }

    fn heir(&self, old: &Server) -> Launch {
        let config = self.site.outside().join("quotes.toml");
        heir(old, &self.site).flag("--config", config.display())
    }

    /// Takes the place of `old`, whose end is waited for.
    fn replace(&self, old: &mut Server) -> Server {
        let new = self.heir(old).start();
        assert_eq!(old.wait().code(), Some(0));
        new
    }
}

#[test]
fn quotes_of_feeders_go_over() {
    for keeps in [false, true] {
        let place = Place::new(keeps);
        let mut server = place.founder();
        Feeder::to(&place.socket).send("a=1\nb=say \"hi\" \\\nc=绵世\nempty=\n\n");
        wait_for_quotes(&server, "a,c", &[("a", "1"), ("c", "绵世")]);
        let before = server.get("/list=a,b,c,empty,none&format=json", &[]);
        for round in 1..=3 {
            server = place.replace(&mut server);
            let after = server.get("/list=a,b,c,empty,none&format=json", &[]);
            assert_eq!(after.text(), before.text(), "round {round}, snapshot: {keeps}");
            assert_eq!(after.get("etag"), before.get("etag"));
            // The next batch builds on what came over.
            let tick = round.to_string();
            Feeder::to(&place.socket).send(format!("z={round}\n\n"));
            wait_for_quotes(&server, "a,z", &[("a", "1"), ("z", &tick)]);
        }
        assert_eq!(server.stop().code(), Some(0));
        assert!(!place.socket.exists(), "the socket's name is left");
    }
}

/// What the old one has kept does not come back over what the new one keeps.
#[test]
fn the_snapshot_is_the_new_ones() {
    let place = Place::new(true);
    let mut server = place.founder();
    Feeder::to(&place.socket).send("a=1\n\n");
    wait_for_quotes(&server, "a", &[("a", "1")]);
    let mut next = place.heir(&server).start();
    Feeder::to(&place.socket).send("a=2\nb=2\n\n");
    wait_for_quotes(&next, "a,b", &[("a", "2"), ("b", "2")]);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(next.stop().code(), Some(0));
    assert!(fs::read_to_string(&place.snapshot).unwrap().contains("a=2"));
    let after = place.launch().start();
    assert_eq!(ask(&after, "a,b"), script(&[("a", "2"), ("b", "2")]));
}

/// It learns that it is to come again, and what it had sent, whole batches, is there.
#[test]
fn a_feeder_is_told_to_come_again() {
    let place = Place::new(false);
    let mut old = place.founder();
    let mut feeders: Vec<Feeder> = (0..4).map(|_| Feeder::to(&place.socket)).collect();
    for (number, feeder) in feeders.iter_mut().enumerate() {
        feeder.send(format!("f{number}=whole\n\nf{number}=half\n"));
    }
    let whole: Vec<(String, &str)> = (0..4).map(|number| (format!("f{number}"), "whole")).collect();
    let whole: Vec<(&str, &str)> = whole.iter().map(|(name, payload)| (name.as_str(), *payload)).collect();
    wait_for_quotes(&old, "f0,f1,f2,f3", &whole);
    let new = place.replace(&mut old);
    for feeder in &mut feeders {
        while let Some(said) = feeder.hear() {
            assert!(said.starts_with("error: "), "{said:?}");
        }
    }
    assert_eq!(ask(&new, "f0,f1,f2,f3"), script(&whole));
    Feeder::to(&place.socket).send("f0=again\n\n");
    wait_for_quotes(&new, "f0", &[("f0", "again")]);
}

/// A program that feeds one batch after the other, each on a connection of its own, and again where it was not taken.
struct Persistent {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Persistent {
    fn start(place: &Place, name: &'static str) -> Persistent {
        let (stop, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counts, socket) = (stop.clone(), taken.clone(), place.socket.clone());
        let thread = thread::spawn(move || {
            let mut tick = 1;
            while !ends.load(Ordering::Relaxed) {
                // The end of the connection without an error is how the server says that it has taken a batch.
                let sent = UnixStream::connect(&socket).map(|stream| {
                    let mut feeder = Feeder::over(stream);
                    let sent = feeder.try_send(format!("{name}1={tick}\n{name}2={tick}\n{name}3={tick}\n\n"));
                    feeder.shut();
                    sent.is_ok() && feeder.ends_in_order()
                });
                if sent.is_ok_and(|taken| taken) {
                    counts.store(tick, Ordering::Relaxed);
                    tick += 1;
                }
            }
            tick - 1
        });
        Persistent { stop, taken, thread }
    }

    fn wait_for_more(&self, batches: u64) {
        let enough = self.taken.load(Ordering::Relaxed) + batches;
        wait_until("batches are taken", || self.taken.load(Ordering::Relaxed) >= enough);
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The ticks of one feeder's three symbols: all the same, and never less than what was seen before.
fn never_backwards() -> Judge {
    let mut seen = 0;
    Box::new(move |answer| {
        let ticks: Vec<u64> = answer.text().split('"').skip(1).step_by(2).map(|n| n.parse().unwrap_or(0)).collect();
        let last = std::mem::replace(&mut seen, ticks[0]);
        match ticks.iter().all(|tick| *tick == ticks[0]) {
            false => Err(format!("a torn batch: {ticks:?}")),
            true if ticks[0] < last => Err(format!("{} after {last}", ticks[0])),
            true => Ok(()),
        }
    })
}

/// Whatever is fed while one server takes another's place: a batch that was taken, or seen, is there from then on.
#[test]
fn no_batch_is_lost_or_torn() {
    for keeps in [false, true] {
        let place = Place::new(keeps);
        let mut server = place.founder();
        let feeders = ["a", "b"].map(|name| Persistent::start(&place, name));
        feeders.iter().for_each(|feeder| feeder.wait_for_more(5));
        let pollers = [("a", Manner::KeepAlive), ("b", Manner::Fresh), ("a", Manner::Fresh)].map(|(name, manner)| {
            let path = format!("/list={name}1,{name}2,{name}3");
            Pollers::judging(server.addr, 6, manner, &path, never_backwards)
        });
        for _ in 0..4 {
            let before = feeders.each_ref().map(|feeder| feeder.taken.load(Ordering::Relaxed));
            let new = place.heir(&server).start();
            for (name, taken) in ["a", "b"].iter().zip(before) {
                let text = ask(&new, &format!("{name}2"));
                let tick: u64 = text.split('"').nth(1).unwrap().parse().unwrap();
                assert!(tick >= taken, "{name}: {tick} is served after {taken} was taken");
            }
            assert_eq!(server.wait().code(), Some(0));
            server = new;
            feeders.iter().for_each(|feeder| feeder.wait_for_more(5));
        }
        let [a, b] = feeders.map(Persistent::stop);
        assert_eq!(ask(&server, "a1,a3,b2"), line("a1", a) + &line("a3", a) + &line("b2", b));
        for pollers in pollers {
            pollers.noticed_nothing();
        }
    }
}

/// A whole market, and tables beside it, which come from the directory.
#[test]
fn a_large_market_goes_over() {
    let place = Place::new(false);
    place.site.file("q.quotes", "t=of the table\ns1=of the table\n");
    let mut server = place.founder();
    let names = symbols(20_000);
    let batch = table(names.iter().enumerate().map(|(n, name)| (name, full_quote(n as u64)))) + "s1=of the socket\n\n";
    Feeder::to(&place.socket).send(&batch);
    wait_for_quotes(&server, "s1", &[("s1", "of the socket")]);
    let asked: Vec<&String> = names.iter().step_by(37).collect();
    let before = server.get(&list(&asked), &[]);
    let mut server = place.replace(&mut server);
    let after = server.get(&list(&asked), &[]);
    assert!(after.body == before.body, "other quotes");
    assert_eq!(ask(&server, "t,s1"), script(&[("t", "of the table"), ("s1", "of the socket")]));
    assert_eq!(metric(&server, "cloudia_quote_symbols"), 20_002);
    assert_eq!(server.stop().code(), Some(0));
}

/// What came over is no longer taken where the new one has no socket for feeders; it starts all the same.
#[test]
fn the_socket_may_be_given_up_and_moved() {
    let place = Place::new(false);
    let mut server = place.founder();
    Feeder::to(&place.socket).send("a=1\n\n");
    wait_for_quotes(&server, "a", &[("a", "1")]);
    let elsewhere = place.site.outside().join("elsewhere");
    fs::write(place.site.outside().join("quotes.toml"), settings(&elsewhere)).unwrap();
    let mut server = place.replace(&mut server);
    assert!(!place.socket.exists(), "the name that nobody listens behind is left");
    Feeder::to(&elsewhere).send("b=1\n\n");
    wait_for_quotes(&server, "a,b", &[("a", "1"), ("b", "1")]);
    fs::write(place.site.outside().join("quotes.toml"), "").unwrap();
    let server = place.replace(&mut server);
    assert!(!elsewhere.exists(), "the name that nobody listens behind is left");
    assert_eq!(server.get("/list=a", &[]).status, 200);
}

fn date_of(server: &Server, path: &str) -> String {
    let mut date = None;
    wait_until("a date", || {
        date = server.get(path, &[]).get("last-modified").map(str::to_owned);
        date.is_some()
    });
    date.unwrap()
}

/// The first version was served under the file's time. So was none of the later ones, which kept that time on the disk.
#[test]
fn a_stamp_of_publication_goes_over() {
    let site = Site::new();
    site.file("f.txt", "first").file("t.quotes", "q=first\n");
    for n in 0..4 {
        site.file(&format!("other{n}.txt"), "other");
    }
    let mut server = founder(&site).start();
    assert_eq!(date_of(&server, "/f.txt"), OLD_DATE);
    let before = now();
    site.replace("f.txt", "second", at(OLD)).replace("t.quotes", "q=second\n", at(OLD));
    wait_until("the second version", || server.get("/f.txt", &[]).text() == "second");
    wait_for_quotes(&server, "q", &[("q", "second")]);
    let dates = ["/f.txt", "/list=q"].map(|path| date_of(&server, path));
    assert!(dates.iter().all(|date| parse_date(date).unwrap() >= before), "{dates:?}");
    for round in 0..3 {
        let next = heir(&server, &site).start();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
        for (path, date) in ["/f.txt", "/list=q"].iter().zip(&dates) {
            let stale = server.get(path, &[&format!("If-Modified-Since: {OLD_DATE}")]);
            assert_eq!(stale.status, 200, "{path}, round {round}: 304 for another content");
            if *path == "/f.txt" {
                assert_eq!(stale.get("last-modified"), Some(date.as_str()), "{path}, round {round}");
                assert_eq!(server.get(path, &[&format!("If-Modified-Since: {date}")]).status, 304);
            }
        }
    }
}

/// It was deleted before the new one came, and is made again with its old time after: another content, so another date.
#[test]
fn a_deleted_file_is_remembered() {
    let site = Site::new();
    site.file("f.txt", "first");
    for n in 0..4 {
        site.file(&format!("other{n}.txt"), "other");
    }
    let mut old = founder(&site).start();
    assert_eq!(date_of(&old, "/f.txt"), OLD_DATE);
    site.remove("f.txt");
    wait_until("it is gone", || old.get("/f.txt", &[]).status == 404);
    let new = heir(&old, &site).start();
    assert_eq!(old.wait().code(), Some(0));
    assert_eq!(new.get("/f.txt", &[]).status, 404);
    site.replace("f.txt", "second", at(OLD));
    wait_until("it is there", || new.get("/f.txt", &[]).status == 200);
    let stale = new.get("/f.txt", &[&format!("If-Modified-Since: {OLD_DATE}")]);
    assert_eq!((stale.status, stale.text().as_str()), (200, "second"), "{stale}");
}

/// Another directory has other contents under the same names and times.
#[test]
fn another_directory_is_not_mistaken_for_the_old_one() {
    let [site, next] = [Site::new(), Site::new()];
    site.file("f.txt", "of the old").file("same.txt", "same");
    next.file("f.txt", "of the new").file("same.txt", "same");
    let mut old = founder(&site).start();
    assert_eq!(date_of(&old, "/f.txt"), OLD_DATE);
    let new = heir(&old, &next).start();
    assert_eq!(old.wait().code(), Some(0));
    let answer = new.get("/f.txt", &[&format!("If-Modified-Since: {OLD_DATE}")]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "of the new"), "304 for another content");
    assert_eq!(new.get("/same.txt", &[&format!("If-Modified-Since: {OLD_DATE}")]).status, 304);
}

/// Several versions a second, some of them with times of long ago, across two take-overs: a date stands for one content,
/// whichever server sent it.
#[test]
fn a_date_stands_for_one_content() {
    let site = Site::new();
    site.file("n.txt", "0");
    let mut server = founder(&site).start();
    let known: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let shared = known.clone();
    let judge = move || -> Judge {
        let known = shared.clone();
        Box::new(move |answer| {
            let Some(date) = answer.get("last-modified") else { return Ok(()) };
            let text = answer.text();
            let mut known = known.lock().unwrap();
            let first = known.entry(date.to_owned()).or_insert_with(|| text.clone());
            if *first == text { Ok(()) } else { Err(format!("{first:?} and {text:?} under {date}")) }
        })
    };
    let pollers = [Manner::KeepAlive, Manner::Fresh]
        .map(|manner| Pollers::judging(server.addr, 8, manner, "/n.txt", judge.clone()));
    let mut number = 0;
    for _ in 0..2 {
        let mut next = heir(&server, &site).begin();
        let from = number;
        wait_until("it is ready", || {
            number += 1;
            let time = if number % 3 == 0 { at(OLD) } else { SystemTime::now() };
            site.replace("n.txt", number.to_string(), time);
            thread::sleep(Duration::from_millis(20));
            // Long enough that dates are sent before, during and after.
            (number > from + 60 && next.is_ready()) || !next.server.is_running()
        });
        let next = next.become_ready().unwrap();
        assert_eq!(server.wait().code(), Some(0));
        server = next;
    }
    date_of(&server, "/n.txt");
    for pollers in pollers {
        pollers.noticed_nothing();
    }
    assert!(known.lock().unwrap().len() > 1, "no dates were sent");
}
