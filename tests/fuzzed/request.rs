//! Any bytes to a connection: the answers are those of the model, whatever the cuts and however full the socket, and a
//! connection whose framing is in doubt ends.

use std::{cell::RefCell, sync::OnceLock};

use crate::{
    basics::Rng,
    fuzz::{
        compare::Judge,
        sample::Sample,
        socket::{self, Manner},
    },
    model,
};

/// The first byte chooses the store, the second the cuts, the rest is what the client sends.
pub(crate) fn check(data: &[u8]) {
    static SAMPLES: OnceLock<[Sample; 2]> = OnceLock::new();
    thread_local! {
        static JUDGE: RefCell<Judge> = RefCell::default();
    }
    let [choice, seed, stream @ ..] = data else { return };
    let samples = SAMPLES.get_or_init(|| [Sample::new(true).with_quotes(), Sample::new(false)]);
    let sample = &samples[usize::from(choice & 1)];
    let talk = model::talk(stream, &sample.site);
    let seed = u64::from(*seed);
    for manner in [Manner::Smooth, Manner::Rough(Rng::with_seed(seed)), Manner::Rough(Rng::with_seed(!seed))] {
        let name = manner.name();
        let seen = socket::converse(stream, &sample.store, sample.site.now, manner);
        let compared = JUDGE.with_borrow_mut(|judge| judge.compare(&talk.answers, &seen.sent));
        let last = talk.answers.last().map(|answer| answer.status);
        let fault = compared.err().or_else(|| seen.fault_at_end(talk.end)).or_else(|| seen.fault_in_notes(last));
        assert!(fault.is_none(), "{name}: {}\n{}", fault.unwrap_or_default(), stream.escape_ascii());
    }
}
