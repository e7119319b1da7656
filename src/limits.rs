//! Every bound of the program, each with its reason.
//!
//! Values that an operator may change are defaults of [`crate::config`]; what stands here is either a
//! protocol bound that clients can rely on or the size of a buffer that follows from one.

use std::time::Duration;

/// A request head longer than this is answered 431. Proxies prepend a few KiB of their own fields; browsers stay below 8 KiB.
pub const MAX_HEAD: usize = 16 * 1024;

/// A header of the PROXY protocol that is longer, with all that a balancer adds to it, is refused. Usual ones are below 100 bytes;
/// with the names of a client's certificate they reach some hundred.
pub const MAX_PROXY_HEADER: usize = 4 * 1024;

/// Characters of the admin listener's token: fewer could be guessed, more are a mistake.
pub const MIN_TOKEN: usize = 16;

/// See [`MIN_TOKEN`].
pub const MAX_TOKEN: usize = 256;

/// A request target longer than this is answered 414.
pub const MAX_TARGET: usize = 8 * 1024;

/// More field lines than this are answered 431.
pub const MAX_FIELDS: usize = 100;

/// Field lines that there is room for at first: a table of [`MAX_FIELDS`] costs 60 ns to lay out for every request.
/// Browsers send about 20, proxies add a few.
pub const USUAL_FIELDS: usize = 32;

/// Bytes of a request body that are read and thrown away for the sake of the connection.
pub const MAX_DISCARDED_BODY: u64 = 64 * 1024;

/// Bytes of chunk extensions and trailers, in sum, before a chunked body is malformed.
pub const MAX_CHUNK_EXTRAS: u32 = 4 * 1024;

/// Digits of a chunk size. Sixteen hold any `u64`; more can only be padding.
pub const MAX_CHUNK_DIGITS: u32 = 16;

/// Ranges of one request before the whole is sent instead.
pub const MAX_RANGES: usize = 32;

/// `max-age` of an answer is never more than a year (RFC 9111 gives no meaning to more).
pub const MAX_AGE_CAP: u32 = 31_536_000;

/// `max-age` where the request does not say: what a scoreboard can be late without anyone minding.
pub const MAX_AGE_DEFAULT: u32 = 120;

/// A symbol of a market has at most so many bytes.
pub const MAX_SYMBOL: usize = 32;

/// Symbols of one list.
pub const MAX_LIST: usize = 1000;

/// Bytes of the answer to a list. A thousand full quotes are 0.3 MB.
pub const MAX_LIST_ANSWER: usize = 4 * 1024 * 1024;

/// Bytes of a line of a table, without its end.
pub const MAX_TABLE_LINE: usize = 64 * 1024;

/// Bytes that a batch of a feeder takes before it ends: a hundred thousand full quotes.
pub const MAX_BATCH: usize = 32 * 1024 * 1024;

/// Bytes that all payloads of feeders take, however many there are of them: half a million full quotes.
pub const MAX_FED: u64 = 512 * 1024 * 1024;

/// Feeders at once, each on its own thread.
pub const MAX_FEEDERS: usize = 64;

/// Symbols that are or were known, of all tables: each takes a place until the end.
pub const MAX_SYMBOLS: usize = 1_000_000;

/// `max-age` of an answer to a list where the request does not say, and the most that it may say: a tick, a minute.
pub const LIST_AGE_DEFAULT: u32 = 1;
/// See [`LIST_AGE_DEFAULT`].
pub const LIST_AGE_CAP: u32 = 60;

/// Bytes of answers to lists that a worker keeps: some 2,000 lists of fifty full quotes.
pub const LIST_BYTES: usize = 32 * 1024 * 1024;

/// A longer payload is not coded, since a worker does that while others wait.
pub const MAX_CODED: usize = 4096;

/// Bytes of lists that are joined for one connection before the others have their turn: some tenths of a millisecond.
pub const LIST_TURN: usize = 256 * 1024;

/// Lists that a worker remembers after it has forgotten their answers.
pub const LISTS_REMEMBERED: usize = 32 * 1024;

/// Answers that may wait for a better compression: what one thread does in some tenths of a second.
pub const LISTS_TO_IMPROVE: usize = 1024;

/// `max-age` of 404 and 301: long enough to blunt a stampede, short enough to publish a file at any time.
pub const MAX_AGE_MISSING: u32 = 1;

/// Bytes received at once. A browser's request is 500 to 1500 bytes, so this holds a deep pipeline.
pub const RECEIVE: usize = 32 * 1024;

/// Connections that are served side by side: what is received from more would push itself out of the core's memory.
pub const SIDE_BY_SIDE: usize = 16;

/// Answers that are longer are sent at once instead of being copied to be sent with those of other connections.
pub const DEFERRED_ANSWER: usize = 16 * 1024;

/// Receives in a row from one connection before the others have their turn.
pub const RECEIVES_PER_TURN: usize = 8;

/// Bodies up to this size are copied behind their head so that the answer is one contiguous send; larger ones go
/// to the kernel from where they lie. Copying 4 KiB costs about what a second slice of a gathering send costs.
pub const INLINE_BODY: usize = 4 * 1024;

/// Bytes of a content that a worker inflates by itself: as long as some ten requests take.
pub const INFLATE_AT_ONCE: usize = 64 * 1024;

/// Bytes of contents that are kept inflated. The largest file must have room.
pub const IDENTITIES: usize = 64 * 1024 * 1024;
const _: () = assert!(IDENTITIES as u64 >= MAX_FILE);

/// Bytes that an entry takes besides its bodies: names, tables, tags, and what the allocator adds.
pub const ENTRY_BYTES: u64 = 500;

/// Answers are collected up to about this many bytes before they are sent.
pub const SEND_BATCH: usize = 64 * 1024;

/// Slices of one gathering send (`IOV_MAX` is 1024; more than this gains nothing).
pub const SEND_SLICES: usize = 64;

/// Unsent bytes the kernel may hold for one connection (`TCP_NOTSENT_LOWAT`). The entry is shared by all
/// slow readers, a kernel copy is not: of 15,000 that stall in a large answer the kernel holds 19 kB each with this, 180 kB
/// with 128 KiB, which is all the memory it has for TCP on a machine of 24 GB. What it costs in throughput was lost in the noise.
pub const KERNEL_UNSENT: u32 = 16 * 1024;

/// Bytes that the connections of one worker may hold which are in the middle of something: parts of requests, answers that the
/// kernel does not take, and bodies that nobody else holds any more. Those that have been still for longest are cut. The
/// largest file has room, so that whoever loads it while it changes is not cut for that alone.
pub const UNFINISHED_BYTES: usize = 64 * 1024 * 1024;

/// A crowd that held less has left nothing worth giving back.
pub const CALM_BYTES: usize = 128 * 1024;

/// Bytes that a connection takes which waits.
pub const CONNECTION_BYTES: usize = 24;

/// An answer may take this long plus a second for every [`SLOWEST_BYTES_PER_SECOND`] of it.
pub const ANSWER_BASE_SECS: u32 = 60;

/// See [`ANSWER_BASE_SECS`].
pub const SLOWEST_BYTES_PER_SECOND: u32 = 4 * 1024;

/// After an error the client's bytes are drained for this long, so that the answer is not lost to a reset.
pub const LINGER_SECS: u32 = 2;

/// After an error at most this many of the client's bytes are drained.
pub const LINGER_BYTES: u32 = 1024 * 1024;

/// Connections accepted in a row before those that are open have their turn.
pub const ACCEPTS_PER_TURN: usize = 64;

/// The listen queue asked for; the kernel cuts it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 65_535;

/// `net.core.somaxconn` below this loses connections in a storm: a warning at start says so.
pub const SOMAXCONN_ADVISED: u32 = 4096;

/// A descriptor limit below this holds fewer connections than one busy page has readers: a warning at start says so.
pub const DESCRIPTORS_ADVISED: u64 = 10_000;

/// Descriptors that each worker keeps back from connections: for its ring, its listeners and timers, what lingers with a 503,
/// and in a table that threads share the files and the admin listener as well.
pub const DESCRIPTORS_RESERVED: u64 = 512;

/// Connections over the budget that may linger with their 503, for each worker; past them the 503 is sent and the
/// socket closed at once.
pub const REFUSALS_LINGERING: usize = 256;

/// Connections that a worker refuses in a row before it pauses for [`REFUSAL_PAUSE`]: 6,000 a second, which is a tenth of a
/// core, and empties a listen queue of [`SOMAXCONN_ADVISED`] in less than a second. What comes faster waits there, and is
/// refused by the kernel when that is full. In small pieces, since those who are welcome wait with the others.
pub const REFUSALS_IN_A_ROW: u32 = 6;

/// See [`REFUSALS_IN_A_ROW`].
pub const REFUSAL_PAUSE: Duration = Duration::from_millis(1);

/// Idle connections that one look for the longest idle remembers: as many can be closed in a tick.
pub const EVICTION_CANDIDATES: usize = 4096;

/// Parts of the table of clients, each behind a lock of its own, so that workers seldom wait for each other.
pub const BUDGET_SHARDS: usize = 64;

/// Lines about refused requests that a worker logs in a tick: with two ticks a second ten lines, which a person can read and no
/// disk notices.
pub const REFUSALS_TOLD: u32 = 5;

/// The worker's clock ticks this often; a deadline is met at most one tick late and never early.
pub const TICKS_PER_SECOND: u32 = 2;

/// Connections that one look at what is ready brings at the most; the others come with the next.
pub const READY_AT_ONCE: usize = 256;

/// Looks at what is ready before other work has its turn. While many were served, others have become ready, which need not be
/// waited for then.
pub const LOOKS_PER_TURN: usize = 4;

/// Entries of a worker's submission queue: for a wait on each listener, on the timer, on orders, and on all connections.
pub const RING_ENTRIES: u32 = 1024;

/// Shards of the store: adding a name copies one shard's map.
pub const STORE_SHARDS: usize = 256;

/// A file larger than this is not published, and no payload is inflated beyond it.
pub const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Directories deeper than this are not followed: a bind mount or a link can make them endless.
pub const MAX_DEPTH: usize = 64;

/// Links to directories on one way into the data directory. Kubernetes needs one.
pub const MAX_LINKS: usize = 2;

/// Admin connections at once, each on its own thread; more wait in the listen queue.
pub const ADMIN_CONNECTIONS: usize = 32;

/// A whole admin exchange takes at most this long.
pub const ADMIN_SECS: u64 = 10;

/// Seconds that the head of an admin request may take beyond this machine: who brings no token holds a place for no longer.
pub const ADMIN_HEAD_SECS: u64 = 1;

const _: () = {
    assert!(MAX_TARGET < MAX_HEAD, "a target of full length must leave room for its fields");
    assert!(RECEIVE >= MAX_HEAD, "one receive must be able to bring a whole head");
    assert!(INLINE_BODY < SEND_BATCH);
    assert!(MAX_DISCARDED_BODY > MAX_CHUNK_EXTRAS as u64);
    assert!(STORE_SHARDS.is_power_of_two());
    assert!(UNFINISHED_BYTES as u64 >= MAX_FILE);
    assert!(REFUSALS_LINGERING as u64 <= DESCRIPTORS_RESERVED / 2);
    assert!(MAX_SYMBOL < 256, "the length of a symbol is held in a byte");
    assert!(MAX_TABLE_LINE as u64 <= MAX_FED && MAX_BATCH as u64 <= MAX_FED);
    assert!(MAX_LIST_ANSWER <= LIST_BYTES / 2, "an answer must not need the whole memory of answers");
};
