//! What was counted, for scripts and for people.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};

use crate::{
    args::{Args, Mode},
    counts::Counts,
};

/// What came of it all.
pub struct Outcome {
    pub elapsed: Duration,
    /// Until all were connected, in the modes that wait for that.
    pub ramp: Counts,
    pub counts: Counts,
}

/// What is printed.
pub fn print(args: &Args, outcome: &Outcome) -> String {
    match args.mode {
        Mode::Browse { json: false, .. } => text(args, outcome),
        _ => format!("{:#}\n", object(args, outcome)),
    }
}

fn object(args: &Args, outcome: &Outcome) -> Value {
    let common = &args.common;
    let mut found = outcome.counts.report();
    found["mode"] = args.mode.name().into();
    found["addr"] = common.addr.to_string().into();
    found["connections"] = common.connections.into();
    found["threads"] = common.threads.into();
    found["seconds"] = common.seconds(&args.mode).into();
    found["elapsed"] = outcome.elapsed.as_secs_f64().into();
    let Mode::Browse { every, jitter, only_ims, seed, .. } = args.mode else {
        found["path"] = common.path().into();
        found["rate"] = common.rate.into();
        found["ramp"] = outcome.ramp.report();
        return found;
    };
    let browse = &outcome.counts.browse;
    found["paths"] = common.path.clone().into();
    found["every"] = every.into();
    found["jitter"] = jitter.into();
    found["only_ims"] = only_ims.into();
    found["seed"] = seed.into();
    found["retries"] = browse.retries.into();
    found["body_bytes"] = browse.body_bytes.into();
    found["saved_bytes"] = browse.saved_bytes.into();
    found["unanswered"] = browse.unanswered.into();
    found["unanswered_waited_us"] = json!(browse.waited.as_micros() as u64);
    found["connect_us"] = browse.connects.report();
    found["histogram_us"] = json!(outcome.counts.latencies.steps());
    found
}

fn text(args: &Args, outcome: &Outcome) -> String {
    let (counts, browse) = (&outcome.counts, &outcome.counts.browse);
    let bytes = |count| BinaryBytes(count).to_string();
    let statuses = list(&counts.answers);
    let failures = list(&counts.failures);
    let rate = counts.answered() as f64 / outcome.elapsed.as_secs_f64().max(1e-9);
    let mut lines = vec![
        format!(
            "{} at {}, each polling {}, for {:.1} s",
            many(args.common.connections.into(), "browser"),
            args.common.addr,
            many(args.common.path.len() as u64, "path"),
            outcome.elapsed.as_secs_f64()
        ),
        format!("answers   {}, {rate:.1}/s{statuses}", HumanCount(counts.answered())),
        format!("failed    {}{failures}", HumanCount(counts.failed())),
    ];
    if browse.unanswered > 0 {
        let (count, waited) = (HumanCount(browse.unanswered), browse.waited.as_secs_f64());
        lines.push(format!("          {count} without an answer at the end, for up to {waited:.1} s"));
    }
    lines.extend([
        format!("latency   {}", counts.latencies.line()),
        format!("bytes     {} sent, {} received", bytes(counts.sent_bytes), bytes(counts.received_bytes)),
        format!("bodies    {}, and {} saved by 304", bytes(browse.body_bytes), bytes(browse.saved_bytes)),
        format!(
            "connects  {}, {} of them again; {} requests sent again; {} closed by the server, {} reset",
            HumanCount(counts.connected),
            HumanCount(counts.reconnects),
            HumanCount(browse.retries),
            HumanCount(counts.closed_by_server),
            HumanCount(counts.reset_by_server)
        ),
        format!("          {}", browse.connects.line()),
    ]);
    lines.extend(counts.failures.keys().filter_map(|how| hint(how)).map(|hint| format!("note      {hint}")));
    lines.join("\n") + "\n\n" + &counts.latencies.picture()
}

fn many(count: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(count), if count == 1 { "" } else { "s" })
}

/// `: 3 × 200, 4 × 304`, or nothing.
fn list<K: Display>(counts: &BTreeMap<K, u64>) -> String {
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{} × {name}", HumanCount(*count))).collect();
    if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
}

/// What may be done about a failure that is not the server's.
fn hint(how: &str) -> Option<&'static str> {
    match how {
        "no port left" => Some("no port left: take more --sources, or a --from that this machine has"),
        "no descriptor left" => Some("no descriptor left: take more --threads, or raise sysctl fs.file-max"),
        "no memory left" => Some("no memory left for sockets: see sysctl net.ipv4.tcp_mem"),
        _ => None,
    }
}
