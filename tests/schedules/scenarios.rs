//! The scenarios: some threads, some steps, and what must hold between any two of them and at the end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::{
    budget::{Budget, Client},
    codec::{self, Effort},
    control::{Control, Order},
    limits::IDENTITIES,
    store::{
        Bodies, Change, Coding, Entry, Store,
        identities::{Nudge, Provided},
        quotes::{
            Publication, Symbol,
            improve::{Fate, Improver, Joined},
            line::Line,
        },
    },
    sync::{Condvar, Mutex, thread},
};

/// By name, with what one run costs beside those of the first: the last compresses, at the lowest priority.
pub(crate) const ALL: &[(&str, fn(), usize)] = &[
    ("versions_are_whole_and_never_go_back", versions, 1),
    ("names_come_and_go_beside_others", names, 1),
    ("one_market_has_one_version_of_a_table", markets, 1),
    ("nobody_is_admitted_beyond_the_budget", budget, 1),
    ("no_client_is_admitted_beyond_its_budget", clients, 1),
    ("what_is_inflated_elsewhere_is_told", inflated, 1),
    ("what_is_inflated_at_once_is_kept_within_bounds", inflated_at_once, 1),
    ("an_order_and_a_pause_both_arrive", orders, 1),
    ("what_is_taken_to_be_compressed_comes_back", improved, 10),
];

fn key(name: &str) -> Arc<[u8]> {
    name.as_bytes().into()
}

/// The content, the stamp and everything made of them tell the version.
fn entry(version: u64) -> Arc<Entry> {
    Arc::new(Entry::new("text/plain", version, Bodies::identity(format!("version {version}").into_bytes().into())))
}

/// Which version an entry is, if it is one.
fn version(entry: &Entry) -> u64 {
    let whole = entry.payload(Coding::Identity).slices().concat();
    assert_eq!(whole, format!("version {}", entry.stamp()).into_bytes(), "of one piece");
    entry.stamp()
}

/// One writer, two readers: no version is torn, none comes after a later one, and at the end only the last is current.
fn versions() {
    let store = Arc::new(Store::new());
    let all: Arc<Vec<Arc<Entry>>> = Arc::new((0..4).map(entry).collect());
    store.apply([Change::Put(key("a"), all[0].clone()), Change::Put(key("b"), all[0].copy().into())]);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            thread::spawn(move || {
                let mut last = 0;
                for _ in 0..3 {
                    let held = store.get(b"a").expect("it is always there");
                    let now = version(&held);
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                    // What is held stays, whatever is swapped in meanwhile.
                    let kept = held.keep();
                    thread::yield_now();
                    assert_eq!(version(&kept), now);
                    // The two names of one batch are swapped one after the other, in the order of the batch.
                    assert!(version(&store.get(b"b").expect("as well")) + 1 >= now);
                }
            })
        })
        .collect();
    for next in &all[1..] {
        store.apply([Change::Put(key("a"), next.clone()), Change::Put(key("b"), next.copy().into())]);
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let current: Vec<bool> = all.iter().map(|entry| entry.is_current()).collect();
    assert_eq!(current, [false, false, false, true]);
    assert!(store.get(b"b").is_some_and(|held| held.is_current()));
}

/// New and removed names copy the map in which the others are: none of those may be missed, or keep an old version.
fn names() {
    let store = Arc::new(Store::new());
    store.apply([Change::Put(key("a"), entry(0))]);
    let reader = {
        let store = store.clone();
        thread::spawn(move || {
            let mut last = 0;
            for _ in 0..4 {
                let now = version(&store.get(b"a").expect("it is always there"));
                assert!(now >= last, "{now} after {last}");
                last = now;
                let all = store.entries();
                assert!(all.iter().any(|(name, _)| **name == *b"a"));
                if let Some(held) = store.get(b"new") {
                    assert_eq!(version(&held), 1);
                }
            }
        })
    };
    let gone = entry(1);
    store.apply([Change::Put(key("new"), gone.clone()), Change::Put(key("a"), entry(1))]);
    store.apply([Change::Put(key("a"), entry(2)), Change::Remove(key("new"))]);
    store.apply([Change::Put(key("a"), entry(3))]);
    reader.join().unwrap();
    assert!(!gone.is_current() && !store.contains(b"new"));
    assert!(store.get(b"a").is_some_and(|held| version(&held) == 3 && held.is_current()));
}

/// Two symbols of one table: who reads both from one market reads one version, and its moment never changes once it is known.
fn markets() {
    let store = Arc::new(Store::new());
    let line = |version: u64| Some(Arc::new(Line::new(version, b"var x=\"y\";\n"[..].into(), 7..8, None)));
    let mut market = store.quotes().load().as_ref().clone();
    let [one, other] = ["one", "other"].map(|name| market.add(Symbol::new(name.as_bytes()).unwrap()));
    let reader = {
        let store = store.clone();
        thread::spawn(move || {
            let mut last = 0;
            for _ in 0..4 {
                let market = store.quotes().load();
                let read = |number| {
                    // The market before the first has no symbols.
                    let quote = market.number(b"one").map(|_| market.quote(number).clone()).unwrap_or_default();
                    (quote.line.map_or(0, |line| line.hash()), quote.published)
                };
                let ((first, published), (second, _)) = (read(one), read(other));
                assert_eq!(first, second, "one moment");
                assert!(first >= last, "{first} after {last}");
                last = first;
                if let Some(published) = published {
                    let stamp = published.stamp();
                    assert!(stamp == Publication::PENDING || stamp == 100 + first, "{stamp} of {first}");
                    assert!(stamp == Publication::PENDING || published.stamp() == stamp, "it is settled once");
                }
            }
        })
    };
    for version in 1..4 {
        let published = Publication::pending();
        market.step();
        market.set(one, line(version), published.clone());
        market.set(other, line(version), published.clone());
        drop(store.quotes().store(Arc::new(market.clone())));
        published.settle(100 + version);
    }
    reader.join().unwrap();
}

/// Three come and go where there is room for two: never three at once, and at the end there is room for two again.
fn budget() {
    let budget = Arc::new(Budget::new(2, None));
    let inside = Arc::new(AtomicUsize::new(0));
    let comers: Vec<_> = (0..3)
        .map(|_| {
            let (budget, inside) = (budget.clone(), inside.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    if budget.take() {
                        assert!(inside.fetch_add(1, SeqCst) < 2, "more than there is room for");
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                        budget.give_back();
                    }
                }
            })
        })
        .collect();
    comers.into_iter().for_each(|comer| comer.join().unwrap());
    assert!(budget.take() && budget.take() && !budget.take(), "every place has come back");
}

/// The same for one client, beside another whose places lie in the same part of the table.
fn clients() {
    let budget = Arc::new(Budget::new(9, Some(1)));
    let client = |host: u8| Client::of(([192, 0, 2, host], 1).into());
    let inside = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let comers: Vec<_> = (0..4)
        .map(|number| {
            let (budget, inside) = (budget.clone(), inside.clone());
            thread::spawn(move || {
                let client = client([2, 4][number % 2]);
                for _ in 0..2 {
                    if budget.take_of(client) {
                        assert_eq!(inside[number % 2].fetch_add(1, SeqCst), 0, "one at a time");
                        thread::yield_now();
                        inside[number % 2].fetch_sub(1, SeqCst);
                        budget.give_back_of(client);
                    }
                }
            })
        })
        .collect();
    comers.into_iter().for_each(|comer| comer.join().unwrap());
    for client in [client(2), client(4)] {
        assert!(budget.take_of(client) && !budget.take_of(client), "every place has come back");
    }
}

/// A content of 1000 bytes that is held compressed: over the bound for inflating at once, and two of them have room.
fn compact(text: u8) -> Arc<Entry> {
    let content = vec![text; 1000];
    let deflate = codec::deflate(&content, Effort::Change).map(Vec::into_boxed_slice);
    Arc::new(Entry::new("text/plain", 1, Bodies { deflate, ..Bodies::identity(content.into()) }).compact())
}

fn store_of_three() -> Arc<Store> {
    let store = Arc::new(Store::new());
    store.apply((0..3).map(|text| Change::Put(key(&text.to_string()), compact(text))));
    store
}

/// What the workers keep, which is at most what there is room for, or one content.
fn assert_within_bounds(store: &Store) {
    let kept = store.entries().into_iter().filter_map(|(_, entry)| entry.inflated()).map(|content| content.len());
    let kept: Vec<usize> = kept.collect();
    assert!(kept.len() <= 1 || kept.iter().sum::<usize>() <= IDENTITIES, "{kept:?}");
}

/// Workers wait for contents that another thread inflates: each is nudged for what it was told to wait for.
fn inflated() {
    let store = store_of_three();
    let inflater = store.clone();
    crate::for_ever(move || inflater.identities().serve());
    let workers: Vec<_> = (0..2)
        .map(|worker: u8| {
            let store = store.clone();
            thread::spawn(move || {
                let told = Arc::new((Mutex::new(false), Condvar::new()));
                let nudge: Nudge = {
                    let told = told.clone();
                    Arc::new(move || {
                        *told.0.lock().unwrap() = true;
                        told.1.notify_one();
                    })
                };
                for step in 0..2 {
                    let text = (worker + step) % 3;
                    let entry = store.get(text.to_string().as_bytes()).unwrap().keep();
                    while store.identities().provide(&entry, Some(&nudge)) == Provided::Later {
                        // Whoever is not told waits for ever, which the model sees.
                        let told = told.1.wait_while(told.0.lock().unwrap(), |told| !*told);
                        *told.unwrap() = false;
                    }
                    if let Some(content) = entry.inflated() {
                        assert!(content.iter().all(|byte| *byte == text) && content.len() == 1000);
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_within_bounds(&store);
}

/// Without that thread the workers inflate by themselves, also the same content at once.
fn inflated_at_once() {
    let store = store_of_three();
    let workers: Vec<_> = (0..3)
        .map(|worker: u8| {
            let store = store.clone();
            thread::spawn(move || {
                for step in 0..2 {
                    let text = (worker / 2 + step) % 3;
                    let entry = store.get(text.to_string().as_bytes()).unwrap().keep();
                    assert_eq!(store.identities().provide(&entry, None), Provided::Ready);
                    // It may have made room already; who reads it keeps it whole.
                    if let Some(content) = entry.inflated() {
                        let content = content.keep();
                        thread::yield_now();
                        assert!(content.iter().all(|byte| *byte == text) && content.len() == 1000);
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_within_bounds(&store);
    for (_, entry) in store.entries() {
        assert!(entry.inflated().is_none_or(|content| content.is_kept()), "what is kept says so");
    }
}

/// A worker that looks as `worker::obey` does: it hears of an order and of a pause that come at once, and of the last of each.
fn orders() {
    let control = Arc::new(Control::new().unwrap());
    let worker = {
        let control = control.clone();
        thread::spawn(move || {
            loop {
                // In the place of waiting until it is readable.
                if rustix::io::read(control.event(), &mut [0; 8]).is_err() {
                    thread::yield_now();
                    continue;
                }
                control.note_paused(control.is_paused());
                if control.order() == Order::Drain as u8 {
                    return;
                }
            }
        })
    };
    let pausing = {
        let control = control.clone();
        thread::spawn(move || {
            control.pause(true);
            // Who takes over waits for this, unless the end comes first.
            while !control.has_paused() && control.order() == 0 {
                thread::yield_now();
            }
            control.pause(false);
        })
    };
    thread::yield_now();
    control.send(Order::Drain);
    worker.join().unwrap();
    pausing.join().unwrap();
    assert!(!control.is_paused());
}

/// Two workers hand their answers to a thread with room for two: what it takes comes back, unless nobody wants it any more.
fn improved() {
    let store = Arc::new(Store::new());
    store.quotes().improve_with(Improver::start().unwrap());
    let workers: Vec<_> = (0..2)
        .map(|worker: u8| {
            let store = store.clone();
            thread::spawn(move || {
                let answers: Vec<Arc<Joined>> = (0..2)
                    .map(|answer| {
                        let content = vec![b'a' + worker + answer; 200];
                        let bodies = Bodies { deflate: Some(vec![0; 100].into()), ..Bodies::identity(content.into()) };
                        Joined::new(Arc::new(Entry::new("text/plain", 1, bodies)))
                    })
                    .collect();
                let taken: Vec<bool> = answers.iter().map(|joined| store.quotes().improve(joined)).collect();
                for (joined, _) in answers.iter().zip(taken).filter(|(_, taken)| *taken) {
                    loop {
                        match joined.fate() {
                            Fate::Waiting => thread::yield_now(),
                            Fate::Best => panic!("a hundred bytes are not the best for one byte two hundred times"),
                            Fate::Better(entry) => {
                                assert!(entry.deflate_body().is_some_and(|body| body.len() < 100));
                                break;
                            }
                        }
                    }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}
