//! cloudia serves hot, small, often-changing files from memory, already compressed.
//!
//! Two paths cross in one place:
//!
//! ```text
//!   bytes in → serve::request → serve::answer → serve::response → bytes out      one thread a core
//!                                    │
//!                                  store            key → Entry, one pointer swap a change
//!                                    │
//!   file changed → feed::watch → feed::look → feed::build → swap                 its own threads
//! ```
//!
//! - [`worker`] is one core: a ring, its listeners, its connections and their deadlines.
//! - [`serve`] turns the bytes of a connection into the bytes of the answers. Its parts are pure:
//!   functions of bytes, a store and a clock.
//! - [`store`] holds the entries. An entry is one immutable version of one path in all its codings.
//! - [`feed`] watches the data directory and publishes each new version.
//! - Quotes have a place in each of the three: [`feed::quotes`] makes markets of tables and of what programs send,
//!   [`store::quotes`] holds the one of the moment and joins lists of it, [`serve::quotes`] answers them.
//! - [`mz`] makes the `.mz` files that the feed takes as they are; `tools/myzip` is its program.
//! - [`admin`] answers health checks and metrics on a listener of its own.
//! - [`config`] turns flags, environment and file into one checked value; [`limits`] holds every bound.
//!
//! The way in is the program, `cloudia`; [`run::run`] is what it calls.
//!
//! What is left out is a promise: serving never touches the filesystem, takes no lock, allocates nothing for
//! a hit of a held coding, writes no cache line that another core writes, and makes no system call but
//! waiting, receiving and sending. `serve` and `feed` never meet; `tests/tidy.rs` holds the import directions.

pub mod admin;
pub mod check;
pub mod clock;
pub mod config;
pub mod feed;
pub mod limits;
pub mod listen;
pub mod mz;
pub mod run;
pub mod serve;
pub mod stats;
pub mod store;
mod sync;
pub mod worker;
