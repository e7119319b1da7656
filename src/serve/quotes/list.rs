//! Request target to the list of symbols that it asks for. Pure.

use crate::{
    limits::MAX_LIST,
    serve::target::{self, BadTarget},
    store::quotes::is_symbol,
};

/// A target that asks for quotes: its list, not decoded, and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'b> {
    /// What follows `list=`.
    pub list: &'b [u8],
    /// The value of the first `maxage`, as it was sent; empty where there is but the name.
    pub max_age: Option<&'b [u8]>,
    /// `format=json`.
    pub json: bool,
}

impl<'b> Asked<'b> {
    /// Reads a target from its path on; `query` is what follows the first `?`. None: it does not ask for quotes.
    pub fn parse(path: &'b [u8], query: Option<&'b [u8]>) -> Option<Self> {
        let items = |text: &'b [u8]| text.split(|byte| *byte == b'&');
        // The list stands in the query only if there is nothing before that.
        let (with_list, behind) = match (path, query) {
            (b"/", Some(query)) => (query, &b""[..]),
            _ => (path.get(1..)?, query.unwrap_or_default()),
        };
        // Nearly all targets are a path without a `&`.
        if !(with_list.starts_with(LIST) || memchr::memchr(b'&', with_list).is_some()) {
            return None;
        }
        let list = items(with_list).find_map(|item| item.strip_prefix(LIST))?;
        let mut asked = Self { list, max_age: None, json: false };
        for parameter in items(with_list).chain(behind.split(|byte| matches!(byte, b'&' | b'?'))) {
            asked.max_age = asked.max_age.or_else(|| target::max_age_of(parameter));
            asked.json |= parameter == b"format=json";
        }
        Some(asked)
    }
}

const LIST: &[u8] = b"list=";

/// The symbols of a list that was decoded: those that an answer may hold.
///
/// # Errors
/// [`BadTarget`] for an empty list or item, a byte that is not of a symbol, more than [`MAX_LIST`].
pub fn symbols(list: &[u8], json: bool) -> Result<Vec<&[u8]>, BadTarget> {
    let mut symbols = Vec::with_capacity(list.len() / 8 + 1);
    for symbol in list.split(|byte| *byte == b',') {
        if !is_symbol(symbol, json) || symbols.len() == MAX_LIST {
            return Err(BadTarget);
        }
        symbols.push(symbol);
    }
    Ok(symbols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_SYMBOL;

    fn parse(target: &str) -> Option<(String, Option<&str>, bool)> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.as_bytes())),
            None => (target, None),
        };
        let asked = Asked::parse(path.as_bytes(), query)?;
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        Some((text(asked.list).to_owned(), asked.max_age.map(text), asked.json))
    }

    #[test]
    fn the_forms_of_a_target() {
        for (target, list, max_age, json) in [
            ("/list=a,b", "a,b", None, false),
            ("/list=a&maxage=5", "a", Some("5"), false),
            ("/list=a?maxage=5?format=json", "a", Some("5"), true),
            ("/list=a&rn=1?x&format=json", "a", None, true),
            ("/?list=a", "a", None, false),
            ("/?rn=1&maxage&list=a&maxage=7", "a", Some(""), false),
            ("/?list=a?maxage=7", "a?maxage=7", None, false),
            ("/rn=1&list=a", "a", None, false),
            ("/maxage=3&format=json&list=a?maxage=4", "a", Some("3"), true),
            ("/d/e&list=a", "a", None, false),
            ("/list=", "", None, false),
            ("/list=a&list=b", "a", None, false),
            ("/list=a&format=json2&maxages=4", "a", None, false),
        ] {
            assert_eq!(parse(target), Some((list.to_owned(), max_age, json)), "{target}");
        }
        for target in
            ["/", "/?", "/list", "/lists=a", "/a?list=a", "/?xlist=a", "/a?b&list=a", "/d/list=a", "/a&b", "/%6cist=a"]
        {
            assert_eq!(parse(target), None, "{target}");
        }
    }

    #[test]
    fn symbols_and_what_is_none() {
        let symbols = |list: &str, json| symbols(list.as_bytes(), json).map(|symbols| symbols.len());
        assert_eq!(symbols("a,$_9Z,a", false), Ok(3));
        assert_eq!(symbols("a.b-c", true), Ok(1));
        assert_eq!(symbols(&["a"; MAX_LIST].join(","), false), Ok(MAX_LIST));
        let long = "a".repeat(MAX_SYMBOL + 1);
        for bad in
            ["", ",", "a,", ",a", "a,,b", "a b", "a.b", "a-b", "a%", "\u{e4}", &long, &["a"; MAX_LIST + 1].join(",")]
        {
            assert_eq!(symbols(bad, false), Err(BadTarget), "{bad}");
        }
    }
}
