//! The house rules that a machine can hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

/// Without the unit tests at the end.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

#[test]
fn imports_run_downward() {
    let forbidden = [
        ("src/serve", &["crate::feed", "crate::worker", "crate::run", "crate::admin", "crate::config", "monoio"][..]),
        ("src/feed", &["crate::serve", "crate::worker", "crate::run", "crate::admin", "crate::config", "monoio"]),
        ("src/store", &["crate::serve", "crate::feed", "crate::worker", "crate::run", "crate::admin", "monoio"]),
    ];
    for (directory, names) in forbidden {
        for (path, text) in sources(directory) {
            for name in names {
                assert!(!code(&text).contains(name), "{} reaches up to {name}", path.display());
            }
        }
    }
    let limits = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/limits.rs")).unwrap();
    assert!(!limits.contains("use crate"), "limits.rs depends on nothing");
}

#[test]
fn serving_never_touches_files_or_the_clock() {
    for (path, text) in sources("src/serve") {
        for name in ["std::fs", "Mutex", "RwLock", "SystemTime", "Instant::now"] {
            assert!(!code(&text).contains(name), "{} uses {name}", path.display());
        }
    }
}

#[test]
fn files_fit_in_a_head() {
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(sources("tools")) {
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", path.display());
        for (name, lines) in functions(&text) {
            assert!(lines <= 64, "{name} in {} has {lines} lines", path.display());
        }
    }
}

/// The functions of a file that rustfmt has seen, with their lengths: each ends where its indent closes.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let Some((before, after)) = rest.split_once("fn ") else { continue };
        let is_item = before
            .split_whitespace()
            .all(|word| word.starts_with("pub") || ["const", "async", "unsafe"].contains(&word));
        if is_item {
            let end = format!("{indent}}}");
            let len = lines[at..]
                .iter()
                .position(|line| *line == end || (line.ends_with(';') && line.starts_with(&format!("{indent}fn "))));
            found
                .push((after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect(), len.unwrap_or(0) + 1));
        }
    }
    assert!(found.len() >= text.matches("\nfn ").count());
    found
}

#[test]
fn no_unwrap_outside_tests_and_every_unsafe_is_argued() {
    for (path, text) in sources("src").into_iter().chain(sources("tools")) {
        let lines: Vec<&str> = code(&text).lines().collect();
        for (at, line) in lines.iter().enumerate() {
            assert!(!line.contains(".unwrap()") && !line.contains(".expect("), "{}:{}", path.display(), at + 1);
            if line.contains("unsafe {") {
                let before = &lines[at.saturating_sub(6)..at];
                assert!(before.iter().any(|line| line.contains("SAFETY")), "{}:{}", path.display(), at + 1);
            }
        }
        assert!(text.starts_with("//!"), "{} does not say what it is", path.display());
    }
}

/// The headings of a document, as links name them.
fn headings(text: &str) -> Vec<String> {
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles.map(|title| title.to_lowercase().replace(' ', "-")).collect()
}

#[test]
fn paths_named_in_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents =
        fs::read_dir(root.join("docs")).unwrap().map(|entry| format!("docs/{}", entry.unwrap().file_name().display()));
    let documents =
        documents.filter(|name| name.ends_with(".md")).chain(["README.md", "deploy/README.md"].map(str::to_owned));
    for document in documents {
        let text = fs::read_to_string(root.join(&document)).unwrap();
        let base = root.join(&document).parent().unwrap().to_owned();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            match target.strip_prefix('#') {
                Some(heading) => {
                    assert!(headings(&text).contains(&heading.to_owned()), "{document} has no heading {heading}")
                }
                None => assert!(base.join(target).exists(), "{document} names {target}"),
            }
        }
        for named in text.split('`').filter(|named| named.starts_with("src/") || named.starts_with("tools/")) {
            let path = named.split_whitespace().next().unwrap();
            assert!(root.join(path).exists(), "{document} names {named}");
        }
    }
}
