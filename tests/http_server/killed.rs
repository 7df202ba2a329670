//! Clients that are killed in the middle: nothing of them stays.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::site::{Folder, Site};
use crate::support::common::{client, until};
use crate::support::tool;

/// Starts curl, waits until it is in the middle, and kills it.
fn kill_one(site: &Site, path: &str) -> Option<()> {
    let mut curl = tool("curl")?;
    if path.starts_with("/static") {
        curl.args(["-sSN", &site.url(path)]);
    } else {
        curl.args(["-sSN", "-X", "POST", "-H", "Expect:", "-T", ".", &site.url(path)]);
    }
    let mut curl = curl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("curl is installed");
    if path.starts_with("/static") {
        curl.stdout.take().expect("it is piped").read_exact(&mut [0; 100_000]).expect("a part of it");
    } else {
        let mut stdin = curl.stdin.take().expect("it is piped");
        stdin.write_all(&[b'x'; 60_000]).expect("curl reads");
        if path == "/stream" {
            // It gets something back, and does not get all.
            curl.stdout.take().expect("it is piped").read_exact(&mut [0; 1000]).expect("the body comes back");
        }
    }
    curl.kill().expect("it runs");
    curl.wait().expect("a child");
    Some(())
}

#[test]
fn killed_clients_leave_nothing_behind() {
    let folder = Folder::new();
    folder.file("large.bin", 50 << 20);
    let root = folder.path("");
    let site = Site::start(&["--root", &root]);
    let round =
        || ["/echo", "/stream", "/static/large.bin"].iter().try_for_each(|path| kill_one(&site, path));
    // What is set up once is set up.
    let warmed = (0..5).try_for_each(|_| round());
    if warmed.is_none() {
        return;
    }
    let idle = Site::start(&["--root", &root]).descriptors();
    until("the first are gone", || site.descriptors() <= idle);
    let before = site.resident_kib();
    assert!((0..25).all(|_| round().is_some()));
    until("nothing is left of the others", || site.descriptors() <= idle);
    let after = site.resident_kib();
    eprintln!("75 clients killed: {before} KiB before, {after} KiB after");
    assert!(after.saturating_sub(before) < 8 * 1024, "{before} KiB before, {after} KiB after");
    let mut stream = client(site.address());
    stream.write_all(b"GET /json HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    site.stop();
}
