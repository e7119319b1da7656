//! What the simulation has read before, so that it need not be read again: most requests are sent many times.

use std::{collections::HashMap, rc::Rc};

use super::lists::Texts;
use crate::{
    fuzz::compare::Judge,
    model::{self, Request},
};

/// Heads that are remembered.
const REMEMBERED: usize = 2000;

/// What reads requests and answers.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) judge: Judge,
    pub(super) texts: Texts,
    known: HashMap<Vec<u8>, Rc<Request>>,
}

impl Reader {
    /// As [`model::next`].
    pub(super) fn next(&mut self, stream: &[u8]) -> Option<(Rc<Request>, usize)> {
        // A head that was whole once is so whatever follows it, and what stands before its end is no whole head.
        let head_len = memchr::memmem::find(stream, b"\r\n\r\n").map(|at| at + 4);
        if let Some((len, known)) = head_len.and_then(|len| Some((len, self.known.get(&stream[..len])?))) {
            return Some((known.clone(), len));
        }
        let (request, len) = model::next(stream)?;
        let request = Rc::new(request);
        if head_len == Some(len) && matches!(*request, Request::Whole(_)) {
            if self.known.len() == REMEMBERED {
                self.known.clear();
            }
            self.known.insert(stream[..len].to_vec(), request.clone());
        }
        Some((request, len))
    }
}
