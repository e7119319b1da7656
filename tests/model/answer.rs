//! The answer to one request (wire sections 3 to 6 and 8).

use std::collections::BTreeMap;

use super::{
    Answer, Body, File, Site,
    head::Head,
    quotes,
    range::{self, Asked},
    reason,
    target::{self, Found},
    trim,
};
use crate::basics::{http_date, parse_date};

/// A status without anything of a file, and its line as the body.
pub(crate) fn error(status: u16, site: &Site) -> Answer {
    let text = format!("{status} {}\n", reason(status));
    let lifetime = if status == 404 || status == 301 { "max-age=1" } else { "no-store" };
    bare(status, site)
        .with("Content-Type", "text/plain; charset=utf-8")
        .with("Content-Length", text.len().to_string())
        .with("Cache-Control", lifetime)
        .with_body(Body::Bytes(text.into_bytes()))
}

/// What every answer has.
fn bare(status: u16, site: &Site) -> Answer {
    Answer { status, fields: BTreeMap::new(), body: Body::Bytes(Vec::new()) }
        .with("Server", "cloudia")
        .with("Date", http_date(site.now))
}

impl Answer {
    fn with_body(mut self, body: Body) -> Answer {
        self.body = body;
        self
    }
}

/// Section 3 and RFC 9110: syntax, method, resource, preconditions, range.
pub(crate) fn answer(request: &Head, site: &Site) -> Answer {
    if request.method == "CONNECT" {
        return allow(405, site);
    }
    if request.method == "OPTIONS" && request.target == "*" {
        return allow(204, site);
    }
    let Some((path, query)) = target::split(&request.target) else {
        return error(400, site);
    };
    let whole = query.as_ref().map_or(path.clone(), |query| format!("{path}?{query}"));
    if let Some(asked) = quotes::read_target(&whole) {
        return answer_list(request, &asked, site);
    }
    let Some(path) = target::decode(&path) else {
        return error(400, site);
    };
    let Some(found) = target::find(&path, site) else {
        return error(400, site);
    };
    match request.method.as_str() {
        "GET" | "HEAD" => {}
        "OPTIONS" => return allow(204, site),
        _ => return allow(405, site),
    }
    match found {
        Found::File(file) => answer_file(request, file, target::max_age(query.as_deref()), site),
        Found::Directory(path) => {
            let location = target::location(&path, query.as_deref());
            error(301, site).with("Location", location)
        }
        Found::Nothing => match site.files.get("/404.html") {
            Some(page) => not_found(request, page, site),
            None => error(404, site),
        },
    }
}

/// Section 9, as far as it can be told without the stamps of symbols.
fn answer_list(request: &Head, asked: &quotes::Asked, site: &Site) -> Answer {
    let Some(symbols) = &asked.symbols else { return error(400, site) };
    match request.method.as_str() {
        "GET" | "HEAD" => {}
        "OPTIONS" => return allow(204, site),
        _ => return allow(405, site),
    }
    let text = site.quotes.text("hq_str_", symbols, asked.json);
    Answer { status: 200, fields: BTreeMap::new(), body: Body::List { text, to_head: false } }
}

/// 404 with the site's own page, which is negotiated like any file and has no validators.
fn not_found(request: &Head, page: &File, site: &Site) -> Answer {
    let coding = choose(request, page);
    let (body, length) = body_of(page, coding);
    let answer = bare(404, site).with("Cache-Control", "max-age=1").with_body(body);
    let answer = answer.with("Content-Length", length.to_string()).described(page);
    if coding == "identity" { answer } else { answer.with("Content-Encoding", coding) }
}

/// 204 or 405, which say what is allowed.
pub(crate) fn allow(status: u16, site: &Site) -> Answer {
    let answer = if status == 204 { bare(status, site) } else { error(status, site) };
    answer.with("Allow", "GET, HEAD, OPTIONS")
}

/// GET or HEAD of `file`.
pub(crate) fn answer_file(request: &Head, file: &File, max_age: u128, site: &Site) -> Answer {
    let len = file.content.len();
    let asked = match request.once("range") {
        Some(value) if request.method == "GET" && weight_of("identity", request) != Some(0) => range::read(value, len),
        _ => Asked::Nothing,
    };
    let coding = if asked == Asked::Nothing { choose(request, file) } else { "identity" };
    let validated = |status| {
        let tag = if coding == "identity" { quoted(file) } else { format!("W/{}", quoted(file)) };
        let answer = bare(status, site).with("ETag", tag).with("Cache-Control", format!("max-age={max_age}"));
        match last_modified(file, site) {
            Some(date) => answer.with("Last-Modified", http_date(date)),
            None => answer,
        }
    };
    match check_preconditions(request, file, site) {
        Some(304) if varies(file) => return validated(304).with("Vary", "Accept-Encoding"),
        Some(304) => return validated(304),
        Some(status) => return error(status, site),
        None => {}
    }
    let asked = if if_range_holds(request, file, site) { asked } else { Asked::Whole };
    match asked {
        Asked::Nothing | Asked::Whole => {
            let (body, length) = body_of(file, coding);
            let answer = validated(200).with("Content-Length", length.to_string()).described(file).with_body(body);
            match coding {
                "identity" => answer.with("Accept-Ranges", "bytes"),
                _ => answer.with("Content-Encoding", coding),
            }
        }
        Asked::Unsatisfiable => error(416, site).with("Content-Range", format!("bytes */{len}")),
        Asked::Ranges(ranges) if ranges.len() == 1 => {
            let (start, end) = ranges[0];
            validated(206)
                .with("Content-Range", format!("bytes {start}-{}/{len}", end - 1))
                .with("Content-Length", (end - start).to_string())
                .described(file)
                .with_body(Body::Bytes(file.content[start..end].to_vec()))
        }
        Asked::Ranges(ranges) => {
            let mut answer = validated(206).described(file).with_body(Body::Parts(Box::new(file.clone()), ranges));
            answer.fields.remove("Content-Type");
            answer
        }
    }
}

impl Answer {
    /// The fields that hang on the file alone.
    fn described(self, file: &File) -> Answer {
        let answer = self.with("Content-Type", file.content_type).with("X-Content-Type-Options", "nosniff");
        if varies(file) { answer.with("Vary", "Accept-Encoding") } else { answer }
    }
}

/// In the order in which they are chosen among equals.
const CODINGS: [&str; 4] = ["br", "zstd", "deflate", "gzip"];

/// The bytes of a file in a coding, and how many. A zlib frame is 6 bytes, a gzip frame 18 (RFC 1950, RFC 1952).
fn body_of(file: &File, coding: &str) -> (Body, usize) {
    let held = |body: &Option<Vec<u8>>| body.clone().unwrap_or_default();
    let content = file.content.clone();
    match coding {
        "br" => (Body::Bytes(held(&file.br)), held(&file.br).len()),
        "zstd" => (Body::Bytes(held(&file.zstd)), held(&file.zstd).len()),
        "deflate" => (Body::Zlib(held(&file.deflate), content), held(&file.deflate).len() + 6),
        "gzip" => (Body::Gzip(held(&file.deflate), content), held(&file.deflate).len() + 18),
        _ => (Body::Bytes(content), file.content.len()),
    }
}

/// Section 4: what is not smaller is not offered.
fn offers(file: &File, coding: &str) -> bool {
    let held = match coding {
        "br" => file.br.is_some(),
        "zstd" => file.zstd.is_some(),
        _ => file.deflate.is_some(),
    };
    held && body_of(file, coding).1 < file.content.len()
}

fn varies(file: &File) -> bool {
    CODINGS.iter().any(|coding| offers(file, coding))
}

/// The best coding by `Accept-Encoding`. `*` stands for those that are not listed, but for identity only to refuse it.
pub(crate) fn choose(request: &Head, file: &File) -> &'static str {
    let mut best = ("identity", 0);
    for coding in CODINGS {
        let weight = weight_of(coding, request).unwrap_or(0);
        if offers(file, coding) && weight > best.1 {
            best = (coding, weight);
        }
    }
    match listed("identity", request) {
        Some(weight) if weight > best.1 => "identity",
        _ => best.0,
    }
}

/// What the request says of a coding, in thousandths, by name or by `*`.
pub(crate) fn weight_of(coding: &str, request: &Head) -> Option<u32> {
    listed(coding, request).or_else(|| listed("*", request))
}

/// The best weight under which a coding stands in the list. Items that cannot be read are passed over.
fn listed(coding: &str, request: &Head) -> Option<u32> {
    let mut best = None;
    for item in request.items("accept-encoding") {
        let (name, weight) = match item.split_once(';') {
            Some((name, parameter)) => (trim(name), read_weight(trim(parameter))),
            None => (item, Some(1000)),
        };
        let name = name.to_ascii_lowercase();
        let name = if name == "x-gzip" { "gzip" } else { &name };
        if name == coding && weight.is_some() {
            best = best.max(weight);
        }
    }
    best
}

/// RFC 9110 §12.4.2: `q=` and a number from 0 to 1 with at most three places.
fn read_weight(parameter: &str) -> Option<u32> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, places) = value.split_once('.').unwrap_or((value, ""));
    if places.len() > 3 || !places.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let thousandths: u32 = format!("{places:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

fn quoted(file: &File) -> String {
    format!("\"{}\"", file.etag)
}

/// Section 5: left out while its second is not over.
fn last_modified(file: &File, site: &Site) -> Option<u64> {
    (file.stamp < site.now).then_some(file.stamp)
}

/// Section 5, in the order of RFC 9110 §13.2.2: the status that the preconditions ask for.
pub(crate) fn check_preconditions(request: &Head, file: &File, site: &Site) -> Option<u16> {
    let strong = quoted(file);
    let weak = format!("W/{strong}");
    if request.has("if-match") {
        if !tags(request, "if-match").iter().any(|tag| *tag == "*" || *tag == strong) {
            return Some(412);
        }
    } else if let Some(date) = request.once("if-unmodified-since").and_then(read_date)
        && file.stamp > date
    {
        return Some(412);
    }
    if request.has("if-none-match") {
        let tags = tags(request, "if-none-match");
        let same = tags.iter().any(|tag| *tag == "*" || *tag == strong || *tag == weak);
        return same.then_some(304);
    }
    let date = request.once("if-modified-since").and_then(read_date);
    (date.is_some() && date == last_modified(file, site)).then_some(304)
}

/// The tags of all lines, from left to right. A comma between quotes parts nothing, and what is no tag is passed over
/// up to the next comma.
fn tags<'h>(request: &'h Head, name: &str) -> Vec<&'h str> {
    let mut tags = Vec::new();
    for line in request.lines(name) {
        let mut rest = line;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let item = match tag_len(rest) {
                Some(len) => &rest[..len],
                None => rest.split(',').next().unwrap_or_default(),
            };
            tags.push(trim(item));
            rest = &rest[item.len()..];
        }
    }
    tags
}

/// The length of the entity tag at the front of `text`, if there is one.
fn tag_len(text: &str) -> Option<usize> {
    let opening = if text.starts_with("W/") { 2 } else { 0 };
    let opaque = text[opening..].strip_prefix('"')?;
    Some(opening + 1 + opaque.find('"')? + 1)
}

/// RFC 9110 §13.1.5: the strong tag, or the very date of `Last-Modified`.
pub(crate) fn if_range_holds(request: &Head, file: &File, site: &Site) -> bool {
    if !request.has("if-range") {
        return true;
    }
    let Some(validator) = request.once("if-range") else {
        return false;
    };
    let date = read_date(validator);
    validator == quoted(file) || (date.is_some() && date == last_modified(file, site))
}

/// Any of the three forms of RFC 9110 §5.6.7, without what follows a `;`.
pub(crate) fn read_date(value: &str) -> Option<u64> {
    let date = trim(value.split(';').next()?);
    let words: Vec<&str> = date.split(' ').collect();
    let fixdate = match words[..] {
        [day_name, day, month, year, time, "GMT"] => format!("{day_name} {day} {month} {year} {time} GMT"),
        // Sunday, 06-Nov-94 08:49:37 GMT
        [day_name, day, time, "GMT"] => {
            let (day, month, year) = match day.split('-').collect::<Vec<_>>()[..] {
                [day, month, year] if year.len() == 2 => (day, month, year),
                _ => return None,
            };
            let century = if year < "70" { "20" } else { "19" };
            format!("{} {day} {month} {century}{year} {time} GMT", short_day(day_name)?)
        }
        // Sun Nov 06 08:49:37 1994
        [day_name, month, day, time, year] => format!("{day_name}, {day} {month} {year} {time} GMT"),
        // Sun Nov  6 08:49:37 1994
        [day_name, month, "", day, time, year] => format!("{day_name}, 0{day} {month} {year} {time} GMT"),
        _ => return None,
    };
    // Twenty-nine characters with a year of four: the form that is checked then by writing the date anew.
    (fixdate.len() == 29 && fixdate.split(' ').nth(3)?.len() == 4).then(|| parse_date(&fixdate)).flatten()
}

/// `Sunday,` → `Sun,`
fn short_day(name: &str) -> Option<String> {
    let names = ["Monday,", "Tuesday,", "Wednesday,", "Thursday,", "Friday,", "Saturday,", "Sunday,"];
    names.contains(&name).then(|| format!("{},", &name[..3]))
}
