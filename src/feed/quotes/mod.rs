//! Quotes: `.quotes` files, and what programs send through a socket, to the market that workers read.

pub mod batch;
pub mod board;
pub mod snapshot;
pub mod socket;
pub mod table;
pub mod text;
