//! Field values and targets that are about what a site holds, most of them sound, some nearly so.

use crate::{
    conn::http_date,
    harness::Rng,
    model::{File, Site},
};

pub(crate) fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.below(choices.len())]
}

pub(crate) fn one_in(rng: &mut Rng, many: usize) -> bool {
    rng.below(many) == 0
}

/// A file and its path.
pub(crate) fn any_file<'s>(rng: &mut Rng, site: &'s Site) -> (&'s str, &'s File) {
    let mut paths: Vec<&String> = site.files.keys().collect();
    // A map has no order of its own, and a seed must mean the same in every run.
    paths.sort();
    // The large one would fill every pipeline.
    paths.retain(|path| *path != "/large.txt" || one_in(rng, 4));
    let path = pick(rng, &paths);
    (path, &*site.files[path])
}

/// A target that leads to `path`, or nearly.
pub(crate) fn target(rng: &mut Rng, path: &str) -> String {
    let mut path = match rng.below(12) {
        0 => {
            pick(rng, &["/none", "/dir/none.txt", "/deep/er", "/deep", "/index.html/", "/a.txt/x", "/404.html"]).into()
        }
        1 | 2 => path.replace("index.html", ""),
        3 => path.replace("/index.html", ""),
        _ => path.to_owned(),
    };
    if path.is_empty() {
        path.push('/');
    }
    if one_in(rng, 4) {
        detour(rng, &mut path);
        detour(rng, &mut path);
    }
    let mut target = "/".to_owned();
    target.extend(path.chars().skip(1).map(|c| escape(rng, c)));
    if one_in(rng, 12) {
        let authority = pick(rng, &["http://h", "HTTP://h:80", "https://[::1]:8080", "http://a.example", "http://h:"]);
        target.insert_str(0, authority);
    }
    target + &query(rng)
}

/// Adds segments that lead nowhere.
fn detour(rng: &mut Rng, path: &mut String) {
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    let at = pick(rng, &slashes);
    path.insert_str(at, pick(rng, &["/", "/.", "/./.", "/x/..", "/x//..", "//y/../.", "/x/y/../.."]));
    if one_in(rng, 4) {
        path.push_str(pick(rng, &["/", "/.", "/x/..", "//", "."]));
    }
}

/// Escaped where it must be, and sometimes where it need not.
fn escape(rng: &mut Rng, c: char) -> String {
    let must = !c.is_ascii_graphic() || "%?#".contains(c);
    match rng.below(30) {
        0 => format!("%{:02X}", u32::from(c)),
        1 => format!("%{:02x}", u32::from(c)),
        _ if must => format!("%{:02X}", u32::from(c)),
        _ => c.into(),
    }
}

fn query(rng: &mut Rng) -> String {
    if one_in(rng, 2) {
        return String::new();
    }
    let ages =
        ["0", "1", "7", "0007", "31536000", "31536001", "99999999999999999999", "", "x", "-1", "+5", "5s", "%35"];
    let mut query = "?".to_owned();
    for _ in 0..1 + rng.below(3) {
        match rng.below(4) {
            0 => query.push_str(pick(rng, &["1230015976759", "x=1", "", "?", "Maxage=9", "xmaxage=9", "/../", "%zz"])),
            _ => query.push_str(&format!("maxage={}", pick(rng, &ages))),
        }
        query.push('&');
    }
    if one_in(rng, 3) {
        return query;
    }
    query.trim_end_matches('&').to_owned()
}

const WEIGHTS: &[&str] = &[
    "",
    "",
    "",
    "",
    "",
    ";q=0",
    ";q=0",
    ";q=1",
    ";q=0.5",
    ";q=0.50",
    ";q=0.500",
    "; q=0.7",
    " ;\tq=0.3",
    ";Q=0.4",
    ";q=0.001",
    ";q=0.999",
    ";q=1.",
    ";q=0.",
    ";q=1.000",
    ";q=0.000",
    ";q=1.001",
    ";q=x",
    ";v=1",
    ";q=0.5;x",
    ";q=",
    ";q=.5",
    ";q=2",
    ";q=0.1234",
    ";q=-1",
    ";",
    ";q=0.5 ",
];

pub(crate) fn accept_encoding(rng: &mut Rng) -> String {
    let names =
        ["br", "zstd", "deflate", "gzip", "gzip", "x-gzip", "identity", "*", "compress", "GZip", "Identity", ""];
    if one_in(rng, 4) {
        return "gzip, deflate, br, zstd".into();
    }
    let count = rng.below(6);
    list(rng, count, |rng| format!("{}{}", pick(rng, &names), pick(rng, WEIGHTS)))
}

/// Joins items as lists are joined, more or less.
fn list(rng: &mut Rng, count: usize, item: impl Fn(&mut Rng) -> String) -> String {
    let mut list = String::new();
    for n in 0..count {
        if n > 0 {
            list.push_str(pick(rng, &[",", ", ", ", ", " , ", ",\t", ",,", ", ,"]));
        }
        list.push_str(&item(rng));
    }
    list
}

pub(crate) fn range(rng: &mut Rng, len: usize) -> String {
    let unit = match rng.below(12) {
        0 => pick(rng, &["Bytes=", "BYTES=", "lines=", "bytes", "bytes =", "", "bytes=="]),
        _ => "bytes=",
    };
    let count = match rng.below(16) {
        0 => 31 + rng.below(4),
        1..8 => 2 + rng.below(5),
        8 => 0,
        _ => 1,
    };
    if count > 1 && one_in(rng, 4) {
        // One behind the other: they overlap by a byte, touch, or leave a gap.
        let (step, gap) = (len / count, rng.below(4));
        let one = |n: usize| format!("{}-{}", n * step, ((n + 1) * step).saturating_sub(gap));
        return format!("{unit}{}", (0..count).map(one).collect::<Vec<_>>().join(","));
    }
    let narrow = count > 1 && !one_in(rng, 3);
    format!("{unit}{}", list(rng, count, |rng| range_of(rng, len, narrow)))
}

fn range_of(rng: &mut Rng, len: usize, narrow: bool) -> String {
    let start = position(rng, len);
    match rng.below(20) {
        0 => pick(rng, &["-", "", "x", "1-2-3", "+1-2", "0x1-2", "5", "--5", "2-1", " 1-2", "1 -2", "1-\u{e9}"]).into(),
        1 => format!("-{start}"),
        2 => format!("{start}-"),
        3 => format!("{start}-{}", position(rng, len)),
        4 => format!("{start}-{start}0000000000000000000{}", rng.below(10)),
        5 => format!("9999999999999999999{}-9999999999999999999{}", rng.below(10), rng.below(10)),
        _ if narrow => format!("{start}-{}", start + rng.below(3)),
        _ => format!("{start}-{}", start + rng.below(len + 2)),
    }
}

/// A position that may lie a little behind the end.
fn position(rng: &mut Rng, len: usize) -> usize {
    match rng.below(8) {
        0 => 0,
        1 => len,
        2 => len.saturating_sub(1),
        3 => len + rng.below(5),
        _ => rng.below(len + 1),
    }
}

/// The date of `file` in one of three forms, or one near it, or none.
pub(crate) fn date(rng: &mut Rng, file: &File, now: u64) -> String {
    let secs = match rng.below(10) {
        0 => file.stamp.saturating_sub(1),
        1 => file.stamp + 1,
        2 => now,
        3 => 0,
        4 => file.stamp + 86_400,
        _ => file.stamp,
    };
    let fixdate = http_date(secs);
    let words: Vec<&str> = fixdate.split([' ', ',']).collect();
    let [name, _, day, month, year, time, _] = words[..] else { return fixdate };
    let long = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let long = long.iter().find(|long| long.starts_with(name)).unwrap_or(&"Noday");
    let date = match rng.below(10) {
        0 => format!("{long}, {day}-{month}-{} {time} GMT", &year[2..]),
        1 => format!("{name} {month} {:>2} {time} {year}", day.trim_start_matches('0')),
        2 => format!("{name} {month} {day} {time} {year}"),
        3 => pick(rng, &["", "yesterday", "0", "*", "Tue, 14 Nov 2023 22:13:20 UTC", "Nov 2023"]).into(),
        4 => fixdate.replace("GMT", "gmt").replacen(' ', "  ", rng.below(2)),
        _ => fixdate.clone(),
    };
    match rng.below(8) {
        0 => format!("{date}; length=6"),
        1 => format!("{date} ;length={}", rng.below(100)),
        _ => date,
    }
}

/// Entity tags, the one of `file` among them more often than not.
pub(crate) fn tags(rng: &mut Rng, file: &File) -> String {
    let count = 1 + rng.below(3);
    list(rng, count, |rng| tag(rng, file))
}

pub(crate) fn tag(rng: &mut Rng, file: &File) -> String {
    let tag = &file.etag;
    match rng.below(20) {
        0..6 => format!("\"{tag}\""),
        6..10 => format!("W/\"{tag}\""),
        10 => "*".into(),
        11 => tag.clone(),
        12 => format!("w/\"{tag}\""),
        13 => format!("\"{tag}"),
        14 => format!("\"{tag}\"\"x\""),
        15 => format!("\"a,b\" \"{tag}\"x"),
        16 => pick(rng, &["\"\"", "", "W/", "\"", "x\"", "* x", "\"\u{ff}\""]).into(),
        _ => format!("\"{}\"", &tag[1..]),
    }
}
