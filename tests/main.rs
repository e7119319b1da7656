//! The tests of cloudia from outside: one binary, so that they link once and run side by side.
//!
//! - [`basics`]: dates, a search, a seeded PRNG, for the targets of `fuzz/` too.
//! - [`harness`]: a data directory, a server over it, a deadline for what takes time.
//! - [`conn`]: a client that sees every byte and insists that an answer is framed correctly.
//! - [`cases`]: tables of `(name, request, what the answer must be)`.
//! - `wire1` … `wire10`: the wire contract, one module a section, named by its number. Section 7 has
//!   four: how connections live, what is refused, what is timed, and how packets may be cut.
//! - [`model`]: the server again, slow and obvious, from the contract alone; [`fuzz`] holds the two together.
//! - [`fuzzed`]: what the targets of `fuzz/` do, over the inputs that the fuzzer has kept.
//!
//! - [`start`], [`stop`], [`drain`]: what is refused and how, what is said, signals, restarts, and what happens before the end.
//! - [`takeover`], `takeover_…`, [`activation`]: a server in another's place, by a flag, a signal or a service manager, with
//!   [`pollers`] that should not notice. [`public`] is for servers of other users.
//! - [`unit`]: the unit of systemd.
//! - [`smuggling`]: a table of requests that two servers may read differently.
//! - [`deadlines`], [`exchange`]: the connection without a network, every deadline and every cut.
//! - [`simulation`]: many connections, workers and one store in an order that a seed decides, with every fault of a socket.
//! - [`wire9_targets`] to [`wire9_stamps`], `quotes…`: quotes; [`quotes`] is what their tests share.
//! - [`quotes_model`]: markets and lists in random steps against [`model::quotes`], [`quotes_lists`] the cache of their answers.
//! - `feed…`: what publishers do to files and what goes wrong with them. [`witness`] watches one path meanwhile, [`faulty`]
//!   makes the faults.
//! - `budget…`: how many connections there may be, and who is refused or let go. `hostile…`: clients that mean harm, or might
//!   as well. [`crowd`] is what they share,
//!   [`network`] a network of their own.
//! - `edge_…`: what is trusted. [`edge_proxy`] and [`edge_proxy_peers`]: headers of balancers, [`edge_balancers`]: real ones, with
//!   the files in `deploy/`; [`edge_admin`]: the token, [`edge_rights`]: what the process may do, [`edge_log`]: who is named.
//! - [`browser`], [`browser_market`], [`clients`], [`metrics`], [`strace`]: foreign eyes. `tools/test` installs what they need.
//!   [`devtools`] drives a page that stays open.
//! - [`myzip`], [`myzip_faults`], [`mz`]: the program, the program when things go wrong, and what it makes. [`ticker`]: the
//!   other program. [`crowd_browse`]: the client of benchmarks, against a server that lies.
//!
//! `CLOUDIA_TEST_IO=auto|uring|epoll` runs everything on that driver, `CLOUDIA_TEST_SEED=N` repeats what
//! a seed did, `CLOUDIA_TEST_ROUNDS=N` is for how long [`fuzz`] goes on, `CLOUDIA_TEST_STEPS=N` for how long [`simulation`].

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by panicking")]

mod activation;
mod alloc;
mod basics;
mod browser;
mod browser_market;
mod budget;
mod budget_descriptors;
mod budget_idle;
mod budget_peers;
mod cases;
mod clients;
mod conn;
mod crowd;
mod crowd_browse;
mod deadlines;
mod devtools;
mod drain;
mod edge_admin;
mod edge_balancers;
mod edge_log;
mod edge_proxy;
mod edge_proxy_peers;
mod edge_rights;
mod exchange;
mod faulty;
mod feed;
mod feed_edges;
mod feed_faults;
mod feed_faults2;
mod feed_ways;
mod feed_ways2;
mod fresh;
mod fuzz;
mod fuzzed;
mod harness;
mod hostile;
mod hostile_readers;
mod identity;
mod metrics;
mod model;
mod myzip;
mod myzip_faults;
mod mz;
mod network;
mod pollers;
mod public;
mod quotes;
mod quotes_feed;
mod quotes_feeders;
mod quotes_fuzz;
mod quotes_lines;
mod quotes_lists;
mod quotes_model;
mod quotes_snapshot;
mod quotes_socket;
mod simulation;
mod smuggling;
mod start;
mod stop;
mod strace;
mod takeover;
mod takeover_faults;
mod takeover_signal;
mod takeover_state;
mod ticker;
mod tidy;
mod unit;
mod witness;

mod wire10_admin;
mod wire1_target;
mod wire2_maxage;
mod wire3_methods;
mod wire4_codings;
mod wire5_preconditions;
mod wire5_stamps;
mod wire6_range;
mod wire7_connections;
mod wire7_cuts;
mod wire7_rejects;
mod wire7_timeouts;
mod wire8_answers;
mod wire9_answers;
mod wire9_charset;
mod wire9_codings;
mod wire9_stamps;
mod wire9_targets;
