//! The state of the server in one view: for programs as JSON, for people as a page.

use std::fmt::Write;

use serde_json::json;

use super::Overview;
use crate::{clock::unix_now, run::Stage, serve::status::Status, stats::Refusal, store::Coding};

/// `/status.json`; `query` says which page of the entries.
pub(super) fn json(overview: &Overview, query: Option<&[u8]>) -> String {
    let feed = &overview.feed;
    let by_status = Status::ALL
        .iter()
        .map(|status| (status.code().to_string(), json!(overview.sum(|worker| worker.requests(*status)))));
    let by_coding = Coding::ALL
        .iter()
        .map(|coding| (coding.name().to_owned(), json!(overview.sum(|worker| worker.coding(*coding)))));
    let refused =
        Refusal::ALL.iter().map(|refusal| (refusal.label().to_owned(), json!(feed.refused[*refusal as usize].get())));
    let workers = overview.workers.iter().map(|worker| {
        json!({ "open": worker.open.get(), "accepted": worker.accepted.get(), "sent_bytes": worker.sent_bytes.get() })
    });
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stage": stage(overview),
        "uptime_seconds": uptime(overview),
        "requests": by_status.collect::<serde_json::Map<_, _>>(),
        "bodies": by_coding.collect::<serde_json::Map<_, _>>(),
        "connections": {
            "open": overview.sum(|worker| worker.open.get()),
            "accepted": overview.sum(|worker| worker.accepted.get()),
            "shed": overview.sum(|worker| worker.shed.get()),
            "evicted": overview.sum(|worker| worker.evicted.get()),
            "cut": overview.sum(|worker| worker.cut.get()),
            "timed_out": overview.sum(|worker| worker.timed_out.get()),
        },
        "sent_bytes": overview.sum(|worker| worker.sent_bytes.get()),
        "panics": overview.sum(|worker| worker.panics.get()),
        "workers": workers.collect::<Vec<_>>(),
        "feed": {
            "entries": feed.entries.get(),
            "content_bytes": feed.content_bytes.get(),
            "held_bytes": feed.held_bytes.get(),
            "published": feed.published.get(),
            "removed": feed.removed.get(),
            "rescans": feed.rescans.get(),
            "last_publication": feed.newest.get(),
            "rejected": refused.collect::<serde_json::Map<_, _>>(),
        },
        "quotes": {
            "symbols": feed.quotes.symbols.get(),
            "tables": feed.quotes.tables.get(),
            "versions": feed.quotes.versions.get(),
            "updates": feed.quotes.updates.get(),
            "skipped_lines": feed.quotes.skipped_lines.get() + feed.quotes.skipped_updates.get(),
            "joined": overview.sum(|worker| worker.lists_joined.get()),
            "cached": overview.sum(|worker| worker.lists_cached.get()),
        },
        "entries": entries(overview, query.unwrap_or_default()),
        "rejections": rejections(overview),
    });
    format!("{status}\n")
}

/// Entries on a page, where the query does not say, and at the most.
const PER_PAGE: usize = 100;
const MOST_PER_PAGE: usize = 10_000;

/// A page of the entries, in the order of their paths: `?page=2&per_page=50`.
fn entries(overview: &Overview, query: &[u8]) -> serde_json::Value {
    let number = |name: &str| {
        let value = query.split(|byte| *byte == b'&').find_map(|item| item.strip_prefix(name.as_bytes()))?;
        std::str::from_utf8(value).ok()?.parse::<usize>().ok()
    };
    let page = number("page=").unwrap_or(1).max(1);
    let per_page = number("per_page=").unwrap_or(PER_PAGE).clamp(1, MOST_PER_PAGE);
    let entries = overview.store.entries();
    let rejected = overview.feed.rejections.all();
    let now = unix_now();
    let list = entries.iter().skip((page - 1).saturating_mul(per_page)).take(per_page).map(|(key, entry)| {
        let name = String::from_utf8_lossy(key);
        let codings = Coding::ALL.iter().filter(|coding| entry.offers(**coding)).map(|coding| coding.name());
        // The file itself or its `.mz`: other sidecars do not keep a version from being replaced.
        let rejection = rejected.get(&*name).or_else(|| rejected.get(&format!("{name}.mz")));
        json!({
            "path": format!("/{name}"),
            "bytes": entry.identity_len(),
            "held_bytes": entry.held_bytes(),
            "codings": codings.collect::<Vec<_>>(),
            "stamp": entry.stamp(),
            "age_seconds": now.saturating_sub(entry.stamp()),
            "etag": String::from_utf8_lossy(entry.etag()),
            // Its file says something else, which is not believed.
            "is_last_good_version": rejection.is_some(),
            "rejection": rejection.map(|rejection| &rejection.reason),
        })
    });
    json!({
        "total": entries.len(),
        "page": page,
        "per_page": per_page,
        "pages": entries.len().div_ceil(per_page),
        "list": list.collect::<Vec<_>>(),
    })
}

/// Files that are not believed now.
fn rejections(overview: &Overview) -> serde_json::Value {
    let all = overview.feed.rejections.all();
    let list = all.into_iter().take(MOST_PER_PAGE).map(|(path, rejection)| {
        json!({
            "file": path,
            "reason": rejection.refusal.label(),
            "text": rejection.reason,
            "since": rejection.since,
        })
    });
    list.collect()
}

/// `/status`. It reloads itself, needs no script and nothing from elsewhere.
pub(super) fn page(overview: &Overview) -> String {
    let feed = &overview.feed;
    let mut page = String::from(HEAD);
    let requests: u64 = Status::ALL.iter().map(|status| overview.sum(|worker| worker.requests(*status))).sum();
    let mut table = |title: &str, rows: &[(String, u64)]| {
        // A String takes every write.
        let _ = write!(page, "<section><h2>{title}</h2><table>");
        for (name, value) in rows {
            let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", grouped(*value));
        }
        page.push_str("</table></section>");
    };
    let row = |name: &str, value: u64| (name.to_owned(), value);
    table("Server", &[row("up, in seconds", uptime(overview)), row("workers", overview.workers.len() as u64)]);
    table(
        "Connections",
        &[
            row("open", overview.sum(|worker| worker.open.get())),
            row("accepted", overview.sum(|worker| worker.accepted.get())),
            row("refused, too many (503)", overview.sum(|worker| worker.shed.get())),
            row("closed to make room", overview.sum(|worker| worker.evicted.get())),
            row("cut for the memory they held", overview.sum(|worker| worker.cut.get())),
            row("cut by a deadline", overview.sum(|worker| worker.timed_out.get())),
        ],
    );
    let by_status = Status::ALL
        .iter()
        .map(|status| (status.text().trim_end().to_owned(), overview.sum(|worker| worker.requests(*status))));
    let mut requests = vec![row("all", requests)];
    requests.extend(by_status.filter(|(_, count)| *count > 0));
    table("Answers", &requests);
    let mut bodies: Vec<_> = Coding::ALL
        .iter()
        .map(|coding| (coding.name().to_owned(), overview.sum(|worker| worker.coding(*coding))))
        .collect();
    bodies.push(row("bytes sent", overview.sum(|worker| worker.sent_bytes.get())));
    table("Bodies", &bodies);
    let mut rows = vec![
        row("paths", feed.entries.get()),
        row("bytes of content", feed.content_bytes.get()),
        row("bytes held", feed.held_bytes.get()),
        row("versions published", feed.published.get()),
        row("paths removed", feed.removed.get()),
    ];
    if feed.lost.get() > 0 {
        rows.insert(0, row("data directories that cannot be read", 1));
    }
    let refused = Refusal::ALL
        .iter()
        .map(|refusal| (format!("not believed: {}", refusal.label()), feed.refused[*refusal as usize].get()));
    rows.extend(refused.filter(|(_, count)| *count > 0));
    table("Feed", &rows);
    let rows = quotes(overview);
    if rows.iter().any(|(_, count)| *count > 0) {
        table("Quotes", &rows);
    }
    let _ = write!(page, "</main><footer>cloudia {} is {}</footer>", env!("CARGO_PKG_VERSION"), stage(overview));
    page
}

fn quotes(overview: &Overview) -> Vec<(String, u64)> {
    let quotes = &overview.feed.quotes;
    let rows = [
        ("symbols", quotes.symbols.get()),
        ("tables", quotes.tables.get()),
        ("versions", quotes.versions.get()),
        ("sent by feeders", quotes.updates.get()),
        ("lines skipped", quotes.skipped_lines.get() + quotes.skipped_updates.get()),
        ("lists joined", overview.sum(|worker| worker.lists_joined.get())),
        ("lists that were there", overview.sum(|worker| worker.lists_cached.get())),
    ];
    rows.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
content='width=device-width,initial-scale=1'><meta http-equiv=refresh content=2><title>cloudia</title><style>\
:root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{margin:2rem auto;max-width:64rem;padding:0 1rem}\
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1rem 2.5rem}h1{font-weight:600}\
h2{font-size:1rem;margin:1rem 0 .3rem}table{border-collapse:collapse;width:100%}\
th{font-weight:400;text-align:left}td{text-align:right;font-variant-numeric:tabular-nums}\
tr{border-top:1px solid #8884}footer{margin-top:2rem;opacity:.6}</style><h1>cloudia</h1><main>";

fn stage(overview: &Overview) -> &'static str {
    match overview.stage.get() {
        Stage::Loading => "loading",
        Stage::Ready => "ready",
        Stage::Draining => "draining",
    }
}

fn uptime(overview: &Overview) -> u64 {
    overview.started.elapsed().map_or(0, |up| up.as_secs())
}

/// A number in groups of three digits.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}
