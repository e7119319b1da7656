//! One connection as the simulation knows it: what must be answered, and until when.
//!
//! It knows the bytes on both ways and the time, not how the server keeps its accounts.

use cloudia::{
    limits::{ANSWER_BASE_SECS, LINGER_SECS, MAX_DISCARDED_BODY, RECEIVE, SLOWEST_BYTES_PER_SECOND},
    serve::{Socket, Wait},
    worker::{Client as Address, slots::Place},
};

use super::{
    client::Client,
    lists::{self, Sent},
    pipe::End,
    public::Public,
    reader::Reader,
    tally::{Event, Tally},
};
use crate::model::{self, Answer, End as Fate, Request, head};

/// Seconds that a worker gives its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) idle: u32,
    pub(super) head: u32,
    pub(super) send: u32,
}

/// Why the server has shut a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Deadline,
    Evicted,
    Abandoned,
    DrainClosed,
}

/// What the server was asked to do, and so what it may say besides answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Serve,
    /// The deadline has passed: 408 may be said.
    Deadline,
    /// There are too many: 503 must be said.
    Refuse,
}

pub(super) struct Peer {
    pub(super) end: End,
    pub(super) client: Client,
    pub(super) host: usize,
    pub(super) id: u32,
    pub(super) address: Option<Address>,
    pub(super) place: Place,
    pub(super) wait: Wait,
    /// A nudge has come, or it is its turn again.
    pub(super) nudged: bool,
    pub(super) cause: Option<Cause>,
    /// Its last answer was said.
    pub(super) is_over: bool,
    /// That was no answer to a request.
    is_told_once: bool,
    /// Half seconds.
    opened: u32,
    /// When bytes were received last.
    heard: u32,
    /// When what has come in part began.
    partial: Option<u32>,
    /// When the kernel took bytes last.
    given: u32,
    /// When the socket was found full, and the bytes that were to be sent then.
    blocked: (u32, u64),
    paused: u32,
    /// When it was its turn again, after others or an inflated content. What the client has begun to say has its time from there.
    resumed: u32,
    shut_at: Option<u32>,
    pub(super) answered: u64,
    /// The last request that was answered.
    last: Vec<u8>,
    /// An answer that was not seen as a whole yet, what becomes of the connection then, and its status.
    pending: Option<(Vec<Answer>, Fate, usize)>,
    before: Before,
}

/// How the connection stood before a call.
#[derive(Clone, Copy, Default)]
struct Before {
    received: u64,
    produced: u64,
    accepted: u64,
    unanswered: usize,
    answered: u64,
    was_paused: bool,
}

impl Peer {
    pub(super) fn new(end: End, client: Client, host: usize, half: u32) -> Peer {
        Peer {
            end,
            client,
            host,
            id: u32::MAX,
            address: None,
            place: Place::Counted,
            wait: Wait::Readable,
            nudged: false,
            cause: None,
            is_over: false,
            is_told_once: false,
            opened: half,
            heard: half,
            partial: None,
            given: half,
            blocked: (half, 0),
            paused: half,
            resumed: half,
            shut_at: None,
            answered: 0,
            last: Vec::new(),
            pending: None,
            before: Before::default(),
        }
    }

    /// The worker would be woken for it.
    pub(super) fn is_ready(&self) -> bool {
        let pipe = self.end.pipe();
        match self.wait {
            Wait::Readable => pipe.is_readable(),
            Wait::Writable | Wait::Others => pipe.is_writable(),
            Wait::Inflated => self.nudged,
            Wait::Closed => false,
        }
    }

    /// The server is about to be called.
    pub(super) fn begin(&mut self) {
        let pipe = self.end.pipe();
        self.before = Before {
            received: pipe.received,
            produced: pipe.produced,
            accepted: pipe.accepted,
            unanswered: pipe.stream.len(),
            answered: self.answered,
            was_paused: matches!(self.wait, Wait::Inflated | Wait::Others),
        };
    }

    /// The server was called: judges what it means to send, and notes the time.
    pub(super) fn settle(&mut self, call: Call, draining: bool, public: &Public, reader: &mut Reader, tally: &Tally) {
        self.judge_all(call, draining, public, reader, tally);
        let pipe = self.end.pipe();
        if let Some(violation) = &pipe.violation {
            panic!("{violation}");
        }
        let now = public.half;
        if self.before.was_paused {
            self.resumed = now;
        }
        if pipe.received > self.before.received {
            self.heard = now;
        }
        if pipe.accepted > self.before.accepted {
            self.given = now;
        }
        if pipe.produced > self.before.produced {
            self.blocked = (now, pipe.produced - self.before.produced);
        }
        let has_answered = self.answered > self.before.answered;
        // A part of an empty line is a beginning as well, also when the rest of it comes.
        let has_part = pipe.stream.len() > blank_len(&pipe.stream) || (self.partial.is_some() && !has_answered);
        if !has_part || self.is_over {
            self.partial = None;
        } else if self.partial.is_none() || has_answered {
            self.partial = Some(now);
        }
        self.paused = now;
        if pipe.write_is_shut && self.shut_at.is_none() {
            self.shut_at = Some(now);
            tally.note(Event::Lingered);
        }
    }

    fn judge_all(&mut self, call: Call, draining: bool, public: &Public, reader: &mut Reader, tally: &Tally) {
        let end = self.end.clone();
        let mut pipe = end.pipe_mut();
        loop {
            if pipe.to_judge().is_empty() && !pipe.is_partly_unseen() {
                break;
            }
            let (expected, fate, len) = match self.pending.take() {
                Some(pending) => pending,
                None => {
                    assert!(
                        !self.is_over,
                        "more is said after the last word: {} to {}",
                        pipe.to_judge().escape_ascii(),
                        self.last.escape_ascii()
                    );
                    let sent = Sent::new(pipe.to_judge()).expect("an answer has no whole head");
                    let is_small =
                        pipe.received - self.before.received + (self.before.unanswered as u64) < RECEIVE as u64;
                    let expected = self.expect(call, draining, is_small, &pipe.stream, &sent, public, reader, tally);
                    tally.note_status(expected.0[0].status);
                    expected
                }
            };
            let results: Vec<_> = expected.iter().map(|answer| reader.judge.answer(answer, pipe.to_judge())).collect();
            match results.iter().find_map(|result| result.as_ref().ok()) {
                Some(answer_len) => {
                    pipe.judge(*answer_len);
                    self.last.clear();
                    self.last.extend_from_slice(&pipe.stream[..len.min(300)]);
                    pipe.stream.drain(..len);
                    self.answered += 1;
                    self.is_over |= fate != Fate::Open;
                    self.is_told_once = call != Call::Serve;
                    tally.note(Event::Answered);
                }
                None if pipe.is_partly_unseen() => {
                    tally.note(Event::SeenInParts);
                    self.pending = Some((expected, fate, len));
                    break;
                }
                None => {
                    let why: Vec<_> = results.into_iter().filter_map(Result::err).collect();
                    panic!("{why:?}: {len} bytes of {}", pipe.stream.escape_ascii());
                }
            }
        }
    }

    /// What may be answered next, of which what is sent must be one, what becomes of the connection then, and the bytes of the
    /// request.
    #[expect(clippy::too_many_arguments, reason = "all of it matters")]
    fn expect(
        &self,
        call: Call,
        draining: bool,
        is_small: bool,
        stream: &[u8],
        sent: &Sent<'_>,
        public: &Public,
        reader: &mut Reader,
        tally: &Tally,
    ) -> (Vec<Answer>, Fate, usize) {
        let site = &public.site;
        if call == Call::Refuse {
            return (vec![model::refusal(503, false, site)], Fate::Drained, 0);
        }
        let Some((request, len)) = reader.next(stream) else {
            assert!(call == Call::Deadline, "an answer to no request: {}", stream.escape_ascii());
            let to_head = stream[blank_len(stream)..].starts_with(b"HEAD ");
            return (vec![model::refusal(408, to_head, site)], Fate::Drained, stream.len());
        };
        assert!(call == Call::Serve, "a request that came as a whole was not answered before its deadline");
        let (mut answers, mut fate) = match &*request {
            Request::Whole(head) | Request::Unread(head) if let Some(asked) = lists::asked(head) => {
                tally.note(Event::ListAnswered);
                let of_list = lists::answers(head, &asked, public, &mut reader.texts, sent);
                let fates = of_list.into_iter().map(|answer| request.answer_by(site, |_| answer));
                let (answers, fates): (Vec<_>, Vec<_>) = fates.unzip();
                (answers, fates[0])
            }
            _ => {
                let (answer, fate) = request.answer(site);
                (vec![answer], fate)
            }
        };
        // While it drains, the answer to the last of the requests that have come is the last one.
        let is_last = stream.len() == len;
        if draining && is_last && fate == Fate::Open {
            let is_told = sent.has("Connection: close");
            assert!(is_told || !is_small, "the last answer does not say that it is");
            if is_told {
                tally.note(Event::ToldOfTheEnd);
                answers = answers.into_iter().map(Answer::closing).collect();
                fate = Fate::Drained;
            }
        }
        (answers, fate, len)
    }

    /// What must hold when the server has been called and the connection waits again. Looks at what has come in part as well,
    /// which takes its time.
    pub(super) fn check_wait(&self, holds: usize, thoroughly: bool) {
        let pipe = self.end.pipe();
        let is_lingering = pipe.write_is_shut;
        match self.wait {
            Wait::Readable => {
                assert!(is_lingering || pipe.outstanding() == 0, "it has more to send and waits for bytes");
                assert!(is_lingering || !self.is_over, "it waits for bytes after the last answer");
                if self.partial.is_none() && !is_lingering {
                    assert_eq!(holds, 0, "an idle connection holds something: {}", pipe.stream.escape_ascii());
                }
            }
            Wait::Writable => assert!(pipe.outstanding() > 0, "it waits for room and has nothing to send"),
            Wait::Inflated | Wait::Others => {
                assert_eq!(pipe.outstanding(), 0, "it waits for another with bytes to send")
            }
            Wait::Closed => return,
        }
        if thoroughly && !is_lingering && !pipe.shut && self.pending.is_none() && !self.is_over {
            let is_whole = model::next(&pipe.stream).is_some();
            match self.wait {
                Wait::Readable => assert!(!is_whole, "a request is not answered: {}", pipe.stream.escape_ascii()),
                Wait::Inflated | Wait::Others => assert!(is_whole, "it waits for another without a request"),
                _ => {}
            }
        }
    }

    /// Since when it has been idle, as far as bytes can tell.
    pub(super) fn idle_since(&self) -> Option<u32> {
        let pipe = self.end.pipe();
        let is_idle = self.wait == Wait::Readable && self.partial.is_none() && !self.is_over && pipe.outstanding() == 0;
        is_idle.then_some(if self.answered == 0 { self.opened } else { self.given.max(self.resumed) })
    }

    /// The same, for one that could be closed now.
    pub(super) fn evictable_since(&self) -> Option<u32> {
        // Empty lines are the beginning of something.
        self.idle_since().filter(|_| self.end.is_quiet() && self.end.pipe().received_is_answered())
    }

    /// It is gone: there must be a reason.
    pub(super) fn check_end(&self, tally: &Tally) {
        let pipe = self.end.pipe();
        if pipe.broken || pipe.reset {
            return;
        }
        if let Some(cause) = self.cause {
            let is_answered = pipe.outstanding() == 0 && self.partial.is_none();
            let may_cut = matches!(cause, Cause::Deadline | Cause::Abandoned);
            assert!(may_cut || is_answered, "{cause:?} in the middle of something");
            return;
        }
        if self.is_over {
            // What is said at a deadline, or to one too many, is said once.
            assert!(pipe.outstanding() == 0 || self.is_told_once, "closed before its last answer was sent");
            // A reset would destroy the answer.
            assert!(pipe.write_is_shut || pipe.stream.is_empty(), "closed at once, although more had come");
            return;
        }
        assert!(pipe.told_of_end, "closed without a reason");
        assert_eq!(pipe.outstanding(), 0, "closed before its answers were sent");
        assert!(model::next(&pipe.stream).is_none(), "closed before its requests were answered");
        tally.note(Event::CutShort);
    }

    /// Half seconds that what it waits for may take at the least and at the most, and since when.
    fn bounds(&self, patience: &Patience) -> Vec<(u32, u32, u32)> {
        let pipe = self.end.pipe();
        let cap = |len: u64| 2 * (ANSWER_BASE_SECS + (len / u64::from(SLOWEST_BYTES_PER_SECOND)) as u32);
        let (idle, head, send) = (2 * patience.idle, 2 * patience.head, 2 * patience.send);
        if let Some(shut_at) = self.shut_at {
            return vec![(2 * LINGER_SECS, shut_at, shut_at)];
        }
        match self.wait {
            Wait::Writable => {
                let last = self.given.max(self.blocked.0);
                vec![(send, last, last), (cap(self.blocked.1), self.blocked.0, self.blocked.0)]
            }
            Wait::Inflated | Wait::Others => vec![(send, self.paused, self.paused)],
            _ => match self.partial {
                None if self.answered == 0 => vec![(head, self.opened, self.opened)],
                None => vec![(idle, self.given, self.given.max(self.resumed))],
                Some(since) => match head::read(&pipe.stream) {
                    head::Verdict::Whole { .. } => {
                        let last = self.heard.max(self.given);
                        vec![(head, self.heard, last), (cap(MAX_DISCARDED_BODY), since, since.max(self.given) + head)]
                    }
                    _ if self.answered == 0 => vec![(head, self.opened, self.opened)],
                    _ => vec![(head, since, since.max(self.given).max(self.resumed))],
                },
            },
        }
    }

    /// Its deadline has passed, says the server: not too early?
    pub(super) fn check_due(&self, patience: &Patience, half: u32) {
        let bounds = self.bounds(patience);
        let is_due = bounds.iter().any(|(least, since, _)| half - since >= *least);
        assert!(is_due, "a deadline is met too early: {half} of {bounds:?}, {}", self.state());
    }

    /// It is still there. `late`: the worker's ticks are late by so many half seconds.
    pub(super) fn check_not_overdue(&self, patience: &Patience, half: u32, late: u32) {
        if self.end.pipe().shut {
            return;
        }
        let bounds = self.bounds(patience);
        let is_overdue = bounds.iter().any(|(least, _, since)| half - half.min(*since) > least + 2 + late);
        assert!(!is_overdue, "a deadline has passed: {half} of {bounds:?}, {}", self.state());
    }

    /// For people.
    fn state(&self) -> String {
        let Peer { wait, opened, heard, given, partial, paused, answered, .. } = self;
        let (stream, last) = (self.end.pipe().stream.clone(), &self.last);
        format!(
            "{wait:?}, opened {opened}, heard {heard}, given {given}, partial {partial:?}, paused {paused}, answered {answered}, \
             has {} of {} bytes, last {}",
            stream[..stream.len().min(600)].escape_ascii(),
            stream.len(),
            last.escape_ascii()
        )
    }
}

/// Bytes of empty lines at the front.
fn blank_len(stream: &[u8]) -> usize {
    2 * stream.chunks(2).take_while(|pair| *pair == b"\r\n").count()
}
