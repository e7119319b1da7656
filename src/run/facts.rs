//! What is good to know at the start, for people.

use std::{io, io::Write, time::Duration};

use super::rights::Rights;
use crate::{
    config::Config,
    feed::Summary,
    listen::{Address, Bound, Role},
    stats::QuoteStats,
    worker::Io,
};

/// What is good to know at the start, a line each.
pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) summary: Summary,
    pub(super) quotes: &'a QuoteStats,
    pub(super) loaded: Duration,
    pub(super) io: Io,
    pub(super) workers: usize,
    pub(super) bound: &'a [Bound],
    pub(super) rights: Rights,
    pub(super) admin_url: Option<String>,
    pub(super) max_connections: usize,
    pub(super) predecessor: Option<&'a str>,
}

impl Facts<'_> {
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Summary { entries, content_bytes, held_bytes } = self.summary;
        let directory = std::path::absolute(&self.config.data).unwrap_or_else(|_| self.config.data.clone());
        let files = if entries == 1 { "file" } else { "files" };
        let workers = if self.workers == 1 { "worker" } else { "workers" };
        let io = match self.io {
            Io::Uring => "io_uring",
            Io::Epoll => "epoll",
        };
        writeln!(out, "cloudia {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(
            out,
            "data     {}: {entries} {files}, {} of content, {} in memory, loaded in {} ms",
            directory.display(),
            Bytes(content_bytes),
            Bytes(held_bytes),
            self.loaded.as_millis()
        )?;
        let (symbols, tables) = (self.quotes.symbols.get(), self.quotes.tables.get());
        if symbols + tables > 0 {
            let [symbol, table] = [symbols, tables].map(|count| if count == 1 { "" } else { "s" });
            writeln!(out, "quotes   {symbols} symbol{symbol} in {tables} table{table}")?;
        }
        if let Some(socket) = &self.config.quotes.socket {
            writeln!(out, "feeders  unix:{}", socket.display())?;
        }
        let connections = if self.max_connections == 1 { "connection" } else { "connections" };
        writeln!(out, "io       {io}, {} {workers}, up to {} {connections}", self.workers, self.max_connections)?;
        for bound in self.bound {
            match bound.role {
                Role::Proxied => writeln!(
                    out,
                    "balancer {}, with the PROXY protocol from {}",
                    bound.address,
                    self.balancers(&bound.address)
                )?,
                Role::Public | Role::Other => writeln!(out, "listen   {}", bound.url())?,
            }
        }
        if self.bound.iter().any(Bound::is_everywhere) {
            writeln!(out, "public   on every address of this machine; --listen 127.0.0.1:8080 keeps it to this one")?;
        }
        writeln!(out, "rights   {}", self.rights)?;
        if let Some(url) = &self.admin_url {
            writeln!(out, "admin    {url}")?;
        }
        if let Some(process) = self.predecessor {
            writeln!(out, "from     process {process}, which finishes what it has begun")?;
        }
        match self
            .bound
            .iter()
            .filter(|bound| bound.role == Role::Public)
            .map(Bound::url)
            .find(|url| url.starts_with("http"))
        {
            Some(url) => writeln!(out, "ready    open {url}")?,
            None => writeln!(out, "ready")?,
        }
        out.flush()
    }

    /// Who may connect where balancers do.
    fn balancers(&self, address: &Address) -> String {
        match address {
            Address::Tcp(_) => self.config.trusted_proxies.to_string(),
            Address::Unix(_) => "whoever may open it".to_owned(),
        }
    }
}

/// A number of bytes for people.
struct Bytes(u64);

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        let places = usize::from(unit > 0 && value < 99.95);
        write!(f, "{value:.places$} {}", UNITS[unit])
    }
}
