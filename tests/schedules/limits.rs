//! The bounds of the program, but for those that one scenario must reach.

#[path = "../../src/limits.rs"]
mod program;

pub(crate) use program::*;

/// Nearly every new name copies the names of all.
pub(crate) const STORE_SHARDS: usize = 2;
/// Room for two contents of a scenario.
pub(crate) const IDENTITIES: usize = 2500;
pub(crate) const INFLATE_AT_ONCE: usize = 500;
pub(crate) const BUDGET_SHARDS: usize = 2;
pub(crate) const LISTS_TO_IMPROVE: usize = 2;
