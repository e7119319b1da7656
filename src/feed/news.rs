//! What the feed is told, asked, and tells.

use std::{
    sync::mpsc::{self, Sender},
    time::{Duration, Instant},
};

use super::{Feed, Mode, catalog::Stamped, improve::Improved, watch::Hint};

/// What the feed is told.
pub(super) enum News {
    /// Where to look, and since when.
    Hint(Hint, Instant),
    /// What can be swapped in.
    Improved(Improved),
    /// Another server is about to take over, and must know the stamps.
    Leave(Sender<Vec<Stamped>>),
    /// It has not come to that.
    Stay,
}

/// What the first load brought.
pub struct Summary {
    /// Paths that are served.
    pub entries: u64,
    /// Bytes of their contents.
    pub content_bytes: u64,
    /// Bytes held for them in all codings.
    pub held_bytes: u64,
}

/// Asks a feed that runs.
#[derive(Clone)]
pub struct Inquiry(Sender<News>);

impl Feed {
    /// Goes on where another server left off. To be called before anybody is served.
    pub fn inherit(&mut self, stamps: Vec<Stamped>) {
        let others = self.catalog.inherit(stamps);
        // The other server may have seen a change that this one is only about to hear of.
        self.look_at(others, &Mode::default());
    }

    /// A way to ask it while it runs.
    pub fn inquiry(&self) -> Inquiry {
        Inquiry::new(self.tell_news.clone())
    }
}

impl Inquiry {
    pub(super) fn new(feed: Sender<News>) -> Self {
        Self(feed)
    }

    /// Under which stamp each content is served, or was, for the server that takes over; None if the feed does not answer
    /// within `patience`. What is published from now on has no date.
    pub fn leave(&self, patience: Duration) -> Option<Vec<Stamped>> {
        let (tell, told) = mpsc::channel();
        self.0.send(News::Leave(tell)).ok()?;
        told.recv_timeout(patience).ok()
    }

    /// No server takes over.
    pub fn stay(&self) {
        // A feed that has ended is missed elsewhere.
        let _ = self.0.send(News::Stay);
    }
}
