//! What myzip makes is what the server reads: any bytes, at any effort, with any decoder; and no damage gets through.

use std::io::Read;

use cloudia::{
    feed::codec::open_mz,
    mz::{self, Effort},
};
use flate2::read::{DeflateDecoder, GzDecoder};

use crate::{
    harness::{Rng, Server, Site},
    myzip::{text, well},
};

const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Best];

/// Bytes of many kinds: noise, few letters, runs, repetitions near and far, text, all mixed.
fn bytes(rng: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let len = rng.below(most);
    while bytes.len() < len {
        let piece = rng.below(700);
        match rng.below(6) {
            0 => bytes.extend((0..piece).map(|_| rng.next() as u8)),
            1 => bytes.extend((0..piece).map(|_| b"01,.\n"[rng.below(5)])),
            2 => bytes.extend(std::iter::repeat_n(rng.next() as u8, piece * 5)),
            3 if !bytes.is_empty() => {
                let from = rng.below(bytes.len());
                bytes.extend_from_within(from..bytes.len().min(from + piece));
            }
            4 => bytes.push(rng.next() as u8),
            _ => bytes.extend_from_slice(text(rng.below(1000), piece / 100).as_bytes()),
        }
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn any_bytes_come_back() {
    let mut rng = Rng::seeded();
    for round in 0..300 {
        let content = bytes(&mut rng, if round % 50 == 0 { 300_000 } else { 5000 });
        let efforts = if round % 50 == 1 { &EFFORTS[..] } else { &EFFORTS[..2] };
        let mut last = usize::MAX;
        for effort in efforts {
            let mz = mz::pack(&content, *effort).unwrap();
            let opened = open_mz(&mz).unwrap();
            assert!(opened.content == content, "round {round}, {effort:?}");
            assert!(mz.len() <= last, "more effort, larger: round {round}, {effort:?}");
            last = mz.len();
            let mut by_others = Vec::new();
            GzDecoder::new(&mz[..]).read_to_end(&mut by_others).unwrap();
            assert!(by_others == content);
            let mut decoder = libdeflater::Decompressor::new();
            let mut room = vec![0; content.len()];
            assert_eq!(decoder.gzip_decompress(&mz, &mut room), Ok(content.len()));
            assert!(room == content);
        }
    }
}

#[test]
fn any_bytes_through_the_server_to_any_decoder() {
    let site = Site::new();
    let mut rng = Rng::seeded();
    let contents: Vec<Vec<u8>> = (0..40).map(|n| [text(n, 3).into_bytes(), bytes(&mut rng, 4000)].concat()).collect();
    for (n, content) in contents.iter().enumerate() {
        site.file(&format!("{n}.bin"), content);
    }
    well(&site, &["-r", "-q", "."]);
    // Without the file its .mz is the content.
    for n in (0..20).filter(|n| site.data().join(format!("{n}.bin.mz")).exists()) {
        site.remove(&format!("{n}.bin"));
    }
    let server = Server::start(&site);
    for (n, content) in contents.iter().enumerate() {
        let path = format!("/{n}.bin");
        assert!(server.get(&path, &["Accept-Encoding: identity"]).body == *content, "{path}");
        let gzip = server.get(&path, &["Accept-Encoding: gzip"]);
        let deflate = server.get(&path, &["Accept-Encoding: deflate"]);
        let mut decoded = [Vec::new(), Vec::new()];
        if gzip.get("Content-Encoding").is_none() {
            assert!(gzip.body == *content, "{path} may go as it is if that is no larger");
            continue;
        }
        GzDecoder::new(&gzip.body[..]).read_to_end(&mut decoded[0]).unwrap();
        DeflateDecoder::new(deflate.raw_deflate()).read_to_end(&mut decoded[1]).unwrap();
        assert!(decoded.iter().all(|decoded| decoded == content), "{path}");
        let made = std::fs::read(site.data().join(format!("{n}.bin.mz"))).unwrap();
        assert_eq!(deflate.raw_deflate(), open_mz(&made).unwrap().deflate, "{path} is sent as it was made");
    }
}

#[test]
fn any_byte_changed_is_refused_or_harmless() {
    let mut rng = Rng::seeded();
    for content in [text(1, 6).into_bytes(), bytes(&mut rng, 400), vec![b'x'; 3000], Vec::new()] {
        let good = mz::pack(&content, Effort::Default).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            for value in 0..=255 {
                bad[at] = value;
                if let Ok(opened) = open_mz(&bad) {
                    assert!(opened.content == content, "byte {at} as {value}");
                }
            }
        }
    }
}

#[test]
fn any_damage_is_refused_or_harmless() {
    let mut rng = Rng::seeded();
    for _ in 0..3000 {
        let content = bytes(&mut rng, 600);
        let mut bad = mz::pack(&content, Effort::Fast).unwrap();
        for _ in 0..=rng.below(3) {
            let (at, other) = (rng.below(bad.len()), rng.below(bad.len()));
            match rng.below(5) {
                0 => bad[at] ^= 1 << rng.below(8),
                1 => bad.truncate(at.max(1)),
                2 => bad.swap(at, other),
                3 => _ = bad.remove(at.max(1).min(bad.len() - 1)),
                _ => bad.insert(at, rng.next() as u8),
            }
            if bad.len() < 2 {
                break;
            }
        }
        if let Ok(opened) = open_mz(&bad) {
            assert!(opened.content == content);
        }
    }
}

#[test]
fn never_larger_than_gzip() {
    // Python's zlib is what gzip is made of; one process for all instead of one for each.
    let site = Site::new();
    let mut rng = Rng::seeded();
    let script = "import sys, zlib\nfor f in sys.argv[1:]:\n c = zlib.compressobj(9, 8, -15)\n b = open(f, 'rb').read()\n \
                  print(len(c.compress(b) + c.flush()) + 18)";
    let contents: Vec<Vec<u8>> = (0..1500)
        .map(|n| match n % 3 {
            0 => text(n, 1 + n % 60).into_bytes()[n % 20..].to_vec(),
            1 => text(n, 9).into_bytes()[..rng.below(200)].to_vec(),
            _ => bytes(&mut rng, 20 << (n % 10)),
        })
        .collect();
    contents.iter().enumerate().for_each(|(n, content)| _ = site.file(&n.to_string(), content));
    let files = (0..contents.len()).map(|n| n.to_string());
    let python =
        std::process::Command::new("python3").args(["-c", script]).args(files).current_dir(site.data()).output();
    let sizes = String::from_utf8(python.unwrap().stdout).unwrap();
    assert_eq!(sizes.lines().count(), contents.len());
    for ((n, content), gzip) in contents.iter().enumerate().zip(sizes.lines()) {
        let ours = mz::pack(content, Effort::Default).unwrap().len();
        assert!(ours <= gzip.parse().unwrap(), "{n}: {} bytes to {ours}, gzip -9 makes {gzip}", content.len());
    }
}
