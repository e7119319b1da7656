//! A real browser on the page of prices: it shows the table, and what becomes of it, without being loaded again.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    browser::{Browser, copy},
    devtools::Page,
    harness::{Server, Site, own_address, wait_until},
};

/// Symbols, names and prices as they are shown: of the shares by their rows, of the indices by their cards.
const SHOWN: &str = r"[...document.querySelectorAll('#indices article, #shares tr')].map(e => [
    e.querySelector('code').textContent,
    e.querySelector('h3 span, .who b').textContent,
    e.querySelector('.price b').textContent.replaceAll(',', '')])";

/// The same of a table.
fn listed(table: &str) -> Value {
    let rows = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let rows = rows.map(|(symbol, payload)| {
        let fields: Vec<&str> = payload.split(',').collect();
        json!([symbol, fields[0], fields[3].strip_suffix('0').unwrap()])
    });
    rows.collect()
}

/// The table with another value in a field of a symbol.
fn with(table: &str, symbol: &str, field: usize, value: &str) -> String {
    let lines = table.lines().map(|line| match line.split_once('=') {
        Some((head, payload)) if head == symbol => {
            let mut fields: Vec<&str> = payload.split(',').collect();
            assert_ne!(fields[field], value);
            fields[field] = value;
            format!("{head}={}\n", fields.join(","))
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn a_page_of_prices_shows_what_moves_and_counts_what_does_not() {
    let site = Site::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data"), site.data());
    let file = site.data().join("market.quotes");
    let table = fs::read_to_string(&file).unwrap();
    let address = own_address();
    let mut server = Server::builder(&site).listen(address).start();
    let browser = Browser::new(&site);
    let mut page = Page::open(&browser, &format!("http://{address}/market.html"));

    page.wait_until("document.querySelector('#state.ok')");
    assert_eq!(page.value(SHOWN), listed(&table));
    assert_eq!(page.value("document.querySelectorAll('.rose, .fell').length"), 0);
    page.wait_until("+document.querySelector('#n304').textContent > 1");
    assert_eq!(page.value("document.querySelector('#n200').textContent"), "1");
    assert_ne!(page.value("document.querySelector('#sum-304').textContent"), "0 B");
    assert_ne!(page.value("document.querySelector('#sum-zip').textContent"), "0 B");

    // One rises, one falls, and one has a name that would like to be markup.
    let name = r#"</script><img src=x onerror="life=0">\u003c"#;
    let edited = with(&with(&table, "ln600101", 3, "9.990"), "md000084", 3, "28.010");
    let edited = with(&with(&edited, "ln600108", 0, name), "ln000001", 3, "3105.250");
    page.value("life = 1");
    site.replace("market.quotes", &edited, std::time::SystemTime::now());
    page.wait_until("document.querySelector('#ln600101 .price b').textContent === '9.99'");
    assert_eq!(page.value(SHOWN), listed(&edited), "the answer is of one version");
    assert_eq!(page.value("life"), 1, "the page that was loaded before");
    let of_class = |class| format!("[...document.querySelectorAll('#shares .{class}')].map(e => e.parentNode.id)");
    assert_eq!(page.value(&of_class("rose")), json!(["ln600101"]));
    assert_eq!(page.value(&of_class("fell")), json!(["md000084"]));
    assert_eq!(page.value("document.querySelectorAll('#indices .rose').length"), 1);

    let colours = |page: &mut Page| {
        ["#ln600101 .price i", "#md000084 .price i", ".rise-green", ".rise-red"]
            .map(|element| page.value(&format!("getComputedStyle(document.querySelector('{element}')).color")))
    };
    let [rose, fell, green, red] = colours(&mut page);
    assert_ne!(green, red);
    assert_eq!((rose, fell), (green, red));
    page.value("document.querySelector('button[data-rise=red]').click()");
    let [rose, fell, green, red] = colours(&mut page);
    assert_eq!((rose, fell), (red, green));

    server.kill();
    page.wait_until("document.querySelector('#state.down') && document.querySelector('main.stale')");
    assert_eq!(page.value(SHOWN), listed(&edited), "the last prices stay");
    let server = Server::builder(&site).listen(address).start();
    page.wait_until("document.querySelector('#state.ok') && !document.querySelector('main.stale')");
    fs::write(&file, &table).unwrap();
    wait_until("the table is served", || server.get("/list=ln600101", &[]).text().contains(",9.810,"));
    page.wait_until("document.querySelector('#ln600101 .price b').textContent === '9.81'");
    assert_eq!(page.value(SHOWN), listed(&table));
    assert_eq!(page.value("life"), 1);
    assert!(server.stderr().is_empty(), "{}", server.stderr());
}
