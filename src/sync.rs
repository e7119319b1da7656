//! What threads share with each other, from one place.
//!
//! `tests/schedules` puts a model of it in its place, and tries the swap, the budget and the hand-overs under every order of
//! steps that chance finds. So what is shared by hand imports from here, and nothing here does anything.

pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic, mpsc},
    thread,
};

pub(crate) use arc_swap::{ArcSwap, ArcSwapOption, Guard};
