//! The counters as Prometheus text.

use std::time::UNIX_EPOCH;

use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use super::Overview;
use crate::{run::Stage, serve::status::Status, stats::Refusal, store::Coding};

/// The format's media type.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics. They are gathered anew for each reader, so that counting them costs the workers nothing.
pub(super) fn text(overview: &Overview) -> String {
    let mut families = Families(Registry::new());
    workers(overview, &mut families);
    feed(overview, &mut families);
    quotes(overview, &mut families);
    families.gauge(
        "cloudia_build_info",
        "Always 1; the version is a label.",
        "version",
        [(env!("CARGO_PKG_VERSION").to_owned(), 1)],
    );
    families.one_gauge(
        "cloudia_ready",
        "1 after the first load, 0 before it and while draining.",
        u64::from(overview.stage.get() == Stage::Ready),
    );
    let started = overview.started.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    families.one_gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", started);
    families.encode()
}

fn workers(overview: &Overview, families: &mut Families) {
    let by_status =
        Status::ALL.iter().map(|status| (status.code().to_string(), overview.sum(|worker| worker.requests(*status))));
    families.counter("cloudia_requests_total", "Answers by status.", "status", by_status);
    let by_coding =
        Coding::ALL.iter().map(|coding| (coding.name().to_owned(), overview.sum(|worker| worker.coding(*coding))));
    families.counter("cloudia_bodies_total", "Bodies sent, by content coding.", "coding", by_coding);
    let by_worker = |count: fn(&crate::stats::WorkerStats) -> u64| {
        overview.workers.iter().enumerate().map(move |(number, worker)| (number.to_string(), count(worker)))
    };
    let sent = by_worker(|worker| worker.sent_bytes.get());
    families.counter("cloudia_sent_bytes_total", "Bytes handed to the kernel.", "worker", sent);
    let accepted = by_worker(|worker| worker.accepted.get());
    families.counter("cloudia_connections_accepted_total", "Connections accepted.", "worker", accepted);
    let open = by_worker(|worker| worker.open.get());
    families.gauge("cloudia_connections_open", "Connections open now.", "worker", open);
    let by_result = [
        ("accepted", overview.sum(|worker| worker.proxy_accepted.get())),
        ("untrusted", overview.sum(|worker| worker.proxy_untrusted.get())),
        ("malformed", overview.sum(|worker| worker.proxy_malformed.get())),
    ];
    let by_result = by_result.into_iter().map(|(result, count)| (result.to_owned(), count));
    families.counter(
        "cloudia_proxy_headers_total",
        "Connections to --listen-proxy, by what they began with.",
        "result",
        by_result,
    );
    for (name, help, value) in [
        (
            "cloudia_connections_shed_total",
            "Connections over the budget, answered 503.",
            overview.sum(|worker| worker.shed.get()),
        ),
        (
            "cloudia_connections_evicted_total",
            "Idle connections that gave their place to new ones.",
            overview.sum(|worker| worker.evicted.get()),
        ),
        (
            "cloudia_connections_cut_total",
            "Connections in the middle of something, cut because together they held too much memory.",
            overview.sum(|worker| worker.cut.get()),
        ),
        (
            "cloudia_connections_timed_out_total",
            "Connections cut by a deadline without an answer.",
            overview.sum(|worker| worker.timed_out.get()),
        ),
        (
            "cloudia_panics_total",
            "Handlers that panicked, each at the cost of its connection.",
            overview.sum(|worker| worker.panics.get()),
        ),
    ] {
        families.one_counter(name, help, value);
    }
}

fn feed(overview: &Overview, families: &mut Families) {
    let feed = &overview.feed;
    families.one_gauge("cloudia_entries", "Paths that are served.", feed.entries.get());
    let help = "1 while the data directory can be read, 0 while its last content is served instead.";
    families.one_gauge("cloudia_data_readable", help, 1 - feed.lost.get().min(1));
    families.one_gauge("cloudia_content_bytes", "Bytes of their contents.", feed.content_bytes.get());
    families.one_gauge("cloudia_held_bytes", "Bytes held for them in all codings.", feed.held_bytes.get());
    families.one_counter("cloudia_reloads_total", "Versions published, the first load included.", feed.published.get());
    families.one_counter(
        "cloudia_recompressions_total",
        "Versions whose compression was improved afterwards.",
        feed.improved.get(),
    );
    families.one_counter("cloudia_removals_total", "Paths removed.", feed.removed.get());
    families.one_counter("cloudia_rescans_total", "Looks at the whole data directory.", feed.rescans.get());
    let refused =
        Refusal::ALL.iter().map(|refusal| (refusal.label().to_owned(), feed.refused[*refusal as usize].get()));
    families.counter("cloudia_rejected_loads_total", "Files or sidecars not believed, by reason.", "reason", refused);
    families.one_gauge(
        "cloudia_last_publication_timestamp_seconds",
        "When the newest version was published, in seconds since 1970.",
        feed.newest.get(),
    );
    let stamps = overview.store.entries().into_iter().map(|(_, entry)| entry.stamp());
    let (oldest, newest) = stamps.fold((u64::MAX, 0), |(oldest, newest), stamp| (oldest.min(stamp), newest.max(stamp)));
    if oldest <= newest {
        let help = "The stamp of the oldest version that is served, in seconds since 1970.";
        families.one_gauge("cloudia_oldest_entry_timestamp_seconds", help, oldest);
        let help = "The stamp of the newest version that is served, in seconds since 1970.";
        families.one_gauge("cloudia_newest_entry_timestamp_seconds", help, newest);
    }
    if let Some(histogram) = feed.visible.metric() {
        let _ = families.0.register(Box::new(histogram.clone()));
    }
}

fn quotes(overview: &Overview, families: &mut Families) {
    let quotes = &overview.feed.quotes;
    families.one_gauge("cloudia_quote_symbols", "Symbols that are known.", quotes.symbols.get());
    families.one_gauge("cloudia_quote_tables", "Tables of quotes.", quotes.tables.get());
    families.one_counter(
        "cloudia_quote_versions_total",
        "Versions of all quotes, the first load included.",
        quotes.versions.get(),
    );
    let help = "Bytes that the payloads of feeders take.";
    families.one_gauge("cloudia_quote_fed_bytes", help, quotes.fed_bytes.get());
    families.one_counter("cloudia_quote_updates_total", "Payloads that feeders sent.", quotes.updates.get());
    let skipped = [("table", &quotes.skipped_lines), ("socket", &quotes.skipped_updates)];
    let skipped = skipped.map(|(source, count)| (source.to_owned(), count.get()));
    families.counter("cloudia_quote_lines_skipped_total", "Lines that were no quotes.", "source", skipped);
    let answers = [
        ("join", overview.sum(|worker| worker.lists_joined.get())),
        ("cache", overview.sum(|worker| worker.lists_cached.get())),
    ];
    let answers = answers.map(|(from, count)| (from.to_owned(), count));
    families.counter("cloudia_quote_answers_total", "Answers to lists, by where they came from.", "from", answers);
}

struct Families(Registry);

impl Families {
    fn counter(&mut self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, u64)>) {
        // Names and labels are constants of this file; a family that were malformed would be missing, which a test sees.
        let Ok(family) = IntCounterVec::new(Opts::new(name, help), &[label]) else {
            return;
        };
        for (value, count) in values {
            family.with_label_values(&[&value]).inc_by(count);
        }
        let _ = self.0.register(Box::new(family));
    }

    fn gauge(&mut self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (String, u64)>) {
        let Ok(family) = IntGaugeVec::new(Opts::new(name, help), &[label]) else {
            return;
        };
        for (value, count) in values {
            family.with_label_values(&[&value]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let _ = self.0.register(Box::new(family));
    }

    fn one_counter(&mut self, name: &str, help: &str, count: u64) {
        let Ok(family) = IntCounterVec::new(Opts::new(name, help), &[]) else {
            return;
        };
        family.with_label_values::<&str>(&[]).inc_by(count);
        let _ = self.0.register(Box::new(family));
    }

    fn one_gauge(&mut self, name: &str, help: &str, count: u64) {
        let Ok(family) = IntGaugeVec::new(Opts::new(name, help), &[]) else {
            return;
        };
        family.with_label_values::<&str>(&[]).set(i64::try_from(count).unwrap_or(i64::MAX));
        let _ = self.0.register(Box::new(family));
    }

    fn encode(&self) -> String {
        let mut text = Vec::new();
        // A Vec takes every write, and the encoder refuses only families without metrics, of which there are none.
        let _ = TextEncoder::new().encode(&self.0.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
