//! Requests in, answers out: the bytes that arrived together are parsed, and all their answers collected. Pure.

use super::{
    answer::{self, Answer, Scratch},
    body::{Discard, Progress},
    output::Output,
    refusals::Refusals,
    request::{self, Fault, Parsed, Reject, Request},
    response::{self, Envelope, Persistence},
    status::Status,
};
use crate::{
    clock::Clock,
    limits::{MAX_FIELDS, MAX_HEAD, USUAL_FIELDS},
    stats::WorkerStats,
    store::{
        Store,
        identities::{Nudge, Provided},
    },
};

/// What answers are made from.
pub struct Site<'s> {
    /// The entries.
    pub store: &'s Store,
    /// The time of this batch.
    pub clock: &'s Clock,
    /// Where the answers are counted.
    pub stats: &'s WorkerStats,
    /// The server is about to stop: each answer is its connection's last.
    pub draining: bool,
    /// How to tell of a content that was inflated elsewhere.
    pub nudge: Option<&'s Nudge>,
    /// Where to note what is refused, if anybody wants to know.
    pub refusals: Option<&'s Refusals>,
}

/// How far the input was read, and what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes at the front that are done with.
    pub consumed: usize,
    /// Bytes behind them that begin the next input; the bytes of a body behind these are done with as well.
    pub kept: usize,
    /// What is to be done once the output is sent.
    pub next: Next,
}

/// What is to be done once the output is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for more of the client's bytes.
    Read,
    /// The output is full: send it and go on with what was kept.
    Continue,
    /// Much was done for this client: let others have their turn before the rest of it.
    Yield,
    /// The answer to what was kept needs a content that is being inflated: go on when that is done.
    Inflate,
    /// Close. The client is not expected to have anything left to say.
    Close,
    /// Close the sending half and drain what the client still sends, lest a reset destroys the answer.
    Linger,
}

/// Answers the requests in `input`. Where it begins with the head of a request whose body has come in part, `body` holds
/// the reading of that body, the input behind the head is the body's continuation, and so it is left for the next call.
pub fn converse(
    input: &[u8],
    body: &mut Option<Discard>,
    site: &Site<'_>,
    scratch: &mut Scratch,
    out: &mut Output,
) -> Step {
    let mut usual = [httparse::EMPTY_HEADER; USUAL_FIELDS];
    let mut most;
    let mut consumed = 0;
    loop {
        let rest = &input[consumed..];
        if rest.is_empty() {
            return Step { consumed, kept: 0, next: Next::Read };
        }
        if out.is_full() {
            return Step { consumed, kept: rest.len(), next: Next::Continue };
        }
        if consumed > 0 && scratch.is_turn_over() {
            return Step { consumed, kept: rest.len(), next: Next::Yield };
        }
        let mut parsed = request::parse(rest, &mut usual);
        if let Parsed::Reject(Reject { fault: Fault::HeadTooLarge, .. }) = parsed {
            most = [httparse::EMPTY_HEADER; MAX_FIELDS];
            parsed = request::parse(rest, &mut most);
        }
        let (len, close) = match parsed {
            Parsed::Partial { skip } => {
                return Step { consumed: consumed + skip, kept: rest.len() - skip, next: Next::Read };
            }
            Parsed::Reject(reject) => {
                refuse(reject.fault.into(), reject.head, rest, site, out);
                (rest.len(), Some(Next::Linger))
            }
            Parsed::Complete { request, len } => match body_len(&request, body, &rest[len..]) {
                BodyLen::Partial => {
                    return Step { consumed, kept: len, next: Next::Read };
                }
                BodyLen::Malformed => {
                    refuse(Status::BadRequest, request.method == request::Method::Head, &rest[..len], site, out);
                    (rest.len(), Some(Next::Linger))
                }
                BodyLen::Whole(body_len) => {
                    let (head, len) = (&rest[..len], len + body_len);
                    (len, respond(&request, Fate::read(head, len == rest.len()), site, scratch, out))
                }
                BodyLen::Unread => (rest.len(), respond(&request, Fate::unread(&rest[..len]), site, scratch, out)),
            },
        };
        if close == Some(Next::Inflate) {
            return Step { consumed, kept: rest.len(), next: Next::Inflate };
        }
        consumed += len;
        match close {
            None => {}
            Some(Next::Close) if consumed == input.len() => {
                return Step { consumed, kept: 0, next: Next::Close };
            }
            Some(_) => {
                return Step { consumed: input.len(), kept: 0, next: Next::Linger };
            }
        }
    }
}

enum BodyLen {
    /// All of it is here: this many bytes.
    Whole(usize),
    /// Not all of it is here.
    Partial,
    /// Not worth reading on this connection.
    Unread,
    Malformed,
}

fn body_len(request: &Request<'_, '_>, body: &mut Option<Discard>, bytes: &[u8]) -> BodyLen {
    let Some(mut discard) = body.take().or_else(|| Discard::new(request.body)) else {
        return BodyLen::Whole(0);
    };
    if request.expects_continue {
        return BodyLen::Unread;
    }
    match discard.feed(bytes) {
        Progress::Done(len) => BodyLen::Whole(len),
        Progress::More => {
            *body = Some(discard);
            BodyLen::Partial
        }
        Progress::TooLong => BodyLen::Unread,
        Progress::Malformed => BodyLen::Malformed,
    }
}

/// What of the connection is known besides the request.
struct Fate<'h> {
    /// The request as it came.
    head: &'h [u8],
    body_is_read: bool,
    /// Nothing has arrived behind it.
    last: bool,
}

impl<'h> Fate<'h> {
    fn unread(head: &'h [u8]) -> Self {
        Self { head, body_is_read: false, last: true }
    }

    fn read(head: &'h [u8], last: bool) -> Self {
        Self { head, body_is_read: true, last }
    }
}

/// Answers one request. What is to become of the connection, if it does not persist.
fn respond(
    request: &Request<'_, '_>,
    fate: Fate<'_>,
    site: &Site<'_>,
    scratch: &mut Scratch,
    out: &mut Output,
) -> Option<Next> {
    let mut answer = answer::answer(request, site.store, site.clock.secs(), scratch, site.stats);
    let is_head = request.method == request::Method::Head;
    if let Some(entry) = answer.content().filter(|_| !is_head) {
        // A body that has come is not kept, so that its request cannot be answered later.
        let nudge = site.nudge.filter(|_| request.body == request::Body::None);
        match site.store.identities().provide(entry, nudge) {
            Provided::Ready => {}
            Provided::Later => return Some(Next::Inflate),
            Provided::Broken => answer = Answer::Plain(Status::ServiceUnavailable),
        }
    }
    // What has arrived is answered before the end.
    let linger = !fate.body_is_read
        || (site.draining && fate.last)
        || matches!(answer, Answer::Plain(status) if status.closes());
    let persistence = match (linger || !request.persistent, request.http10) {
        (true, _) => Persistence::Close,
        (false, true) => Persistence::KeepAlive,
        (false, false) => Persistence::Implied,
    };
    let written = response::write(answer, Envelope { clock: site.clock, persistence, head: is_head }, out);
    site.stats.answered(written.status, written.coding.filter(|_| !is_head));
    if let Some(refusals) = site.refusals.filter(|_| written.status.closes()) {
        refusals.note(written.status, fate.head);
    }
    match persistence {
        Persistence::Close if linger => Some(Next::Linger),
        Persistence::Close => Some(Next::Close),
        Persistence::Implied | Persistence::KeepAlive => None,
    }
}

/// Answers `bytes`, which are no request, or none in time, with `status`; the connection must close behind it. `head`: as if
/// it was HEAD.
pub fn refuse(status: Status, head: bool, bytes: &[u8], site: &Site<'_>, out: &mut Output) {
    if let Some(refusals) = site.refusals {
        refusals.note(status, &bytes[..bytes.len().min(MAX_HEAD)]);
    }
    let envelope = Envelope { clock: site.clock, persistence: Persistence::Close, head };
    let written = response::write(Answer::Plain(status), envelope, out);
    site.stats.answered(written.status, written.coding);
}
