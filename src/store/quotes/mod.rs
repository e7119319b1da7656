//! Quotes: symbols with payloads that are joined to whatever list is asked for.
//!
//! A [`Market`] is all symbols at one moment. Its writer is the feed, which swaps in the next one as a whole; readers are the
//! workers. So an answer is of one moment, whatever it lists.
//!
//! Nothing in here opens files, waits for anything, or knows HTTP.

pub mod bits;
pub mod code;
pub mod improve;
pub mod join;
pub mod line;
pub mod market;

use std::sync::{Arc, OnceLock};

use crate::sync::{ArcSwap, Guard};
use improve::{Improver, Joined};
pub use market::{Market, Publication, Quote, Symbol, Terms, is_symbol};

/// The quotes of a store.
pub struct Quotes {
    market: ArcSwap<Market>,
    terms: Arc<Terms>,
    improver: OnceLock<Improver>,
}

/// A market, held for a reader.
pub type HeldMarket = Guard<Arc<Market>>;

impl Quotes {
    /// No symbol is known.
    pub fn new(terms: Terms) -> Self {
        let terms = Arc::new(terms);
        Self { market: ArcSwap::from_pointee(Market::new(terms.clone())), terms, improver: OnceLock::new() }
    }

    /// What answers look like, and how long copies of them live.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The market as it is now.
    pub fn load(&self) -> HeldMarket {
        self.market.load()
    }

    /// Swaps the next market in. The one before is returned, so that the writer can give its memory back rather than the
    /// last of its readers.
    pub fn store(&self, market: Arc<Market>) -> Arc<Market> {
        self.market.swap(market)
    }

    /// Has popular answers compressed by `improver` from now on.
    pub fn improve_with(&self, improver: Improver) {
        // A second one would have nothing to do.
        let _ = self.improver.set(improver);
    }

    /// Has an answer compressed better, unless too many wait for that.
    pub fn improve(&self, joined: &Arc<Joined>) -> bool {
        self.improver.get().is_some_and(|improver| improver.take(joined))
    }
}
