//! Any fields about one entry: what is made of ranges, dates, tags and codings is what the model makes of them.

use std::sync::OnceLock;

use cloudia::{
    clock::parse_http_date,
    serve::{
        conditional::{self, Precondition},
        negotiate::Weights,
        range::{self, Asked},
        request::{self, Parsed, Request},
    },
    store::Held,
};

use crate::{
    basics::http_date,
    fuzz::sample::Sample,
    model::{
        File,
        answer::{self, read_date},
        head::{self, Head, Verdict},
        latin1, range as slow,
    },
};

const FIELDS: [&str; 8] = [
    "Accept-Encoding",
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "Range",
    "If-Range",
    "Accept-Encoding",
];

/// The first byte chooses the entry. Each line is a field, named by its first byte; in its value 1 stands for the tag of the
/// entry, 2 for the date of its stamp: no fuzzer would guess them.
pub(crate) fn check(data: &[u8]) {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    let sample = SAMPLE.get_or_init(|| Sample::new(true));
    let [choice, text @ ..] = data else { return };
    let mut paths: Vec<&String> = sample.site.files.keys().collect();
    paths.sort();
    let path = paths[usize::from(*choice) % paths.len()];
    let file = &sample.site.files[path];
    let key: Vec<u8> = path.chars().skip(1).map(|c| c as u8).collect();
    let entry = sample.store.get(&key).expect("an entry");

    let mut lines = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
    for line in text.split(|byte| *byte == b'\n') {
        let [name, value @ ..] = line else { continue };
        lines.extend_from_slice(format!("{}: ", FIELDS[usize::from(name & 7)]).as_bytes());
        let from = lines.len();
        for byte in value {
            match byte {
                1 => lines.extend_from_slice(format!("\"{}\"", file.etag).as_bytes()),
                2 => lines.extend_from_slice(http_date(file.stamp).as_bytes()),
                byte => lines.push(*byte),
            }
        }
        same_date(&lines[from..]);
        same_ranges(&lines[from..], file.content.len());
        lines.extend_from_slice(b"\r\n");
    }
    lines.extend_from_slice(b"\r\n");

    let mut room = [httparse::EMPTY_HEADER; 100];
    // That both refuse the same heads is the target `request`'s concern.
    let (Parsed::Complete { request, .. }, Verdict::Whole { head, .. }) =
        (request::parse(&lines, &mut room), head::read(&lines))
    else {
        return;
    };
    same_verdicts(&request, &head, (&entry, file), sample);
}

fn same_verdicts(request: &Request<'_, '_>, head: &Head, (entry, file): (&Held, &File), sample: &Sample) {
    let now = sample.site.now;
    let weights = Weights::parse(&request.accept_encoding);
    assert_eq!(weights.choose(entry).name(), answer::choose(head, file), "{head:?}");
    assert_eq!(weights.accepts_identity(), answer::weight_of("identity", head) != Some(0), "{head:?}");
    let status = match conditional::evaluate(request, entry, now) {
        Precondition::Holds => None,
        Precondition::NotModified => Some(304),
        Precondition::Failed => Some(412),
    };
    assert_eq!(status, answer::check_preconditions(head, file, &sample.site), "{head:?}");
    if let Some(validator) = request.if_range.value() {
        let holds = conditional::if_range_holds(validator, entry, now);
        assert_eq!(holds, answer::if_range_holds(head, file, &sample.site), "{head:?}");
    }
}

fn same_date(value: &[u8]) {
    // Parameters and what no field may hold are cut off and refused elsewhere.
    if value.iter().any(|byte| *byte == b';' || byte.is_ascii_control() || !byte.is_ascii()) {
        return;
    }
    assert_eq!(parse_http_date(value.trim_ascii()), read_date(&latin1(value)), "{}", value.escape_ascii());
}

fn same_ranges(value: &[u8], len: usize) {
    if value.iter().any(|byte| byte.is_ascii_control()) {
        return;
    }
    let of_the_server = match range::parse(value, len) {
        Asked::Nothing => slow::Asked::Nothing,
        Asked::Whole => slow::Asked::Whole,
        Asked::Unsatisfiable => slow::Asked::Unsatisfiable,
        Asked::Ranges(ranges) => {
            slow::Asked::Ranges(ranges.as_slice().iter().map(|range| (range.start, range.end)).collect())
        }
    };
    assert!(of_the_server == slow::read(&latin1(value), len), "{len}: {}", value.escape_ascii());
}
