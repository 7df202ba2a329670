//! Files that change while they are served: every answer is wholly one state of them.

mod support;

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::common::{keyed, until};
use support::web::{Answer, Browser, Site, mount, mount_each, mount_with, request};

/// Asks until the file is old enough to be kept in memory, which its tag shows.
fn settled(browser: &mut Browser, target: &str) -> Answer {
    let mut answer = browser.get(target, &[]);
    until("the file is some ticks old", || {
        answer = browser.get(target, &[]);
        answer.status == 200 && !answer.value("ETag").starts_with("W/")
    });
    // Once more: now it is in memory.
    assert_eq!(browser.get(target, &[]).body, answer.body);
    answer
}

/// As [`settled`], without the body: returns the tag.
fn settled_head(browser: &mut Browser, target: &str) -> String {
    let mut tag = String::new();
    until("the file is some ticks old", || {
        browser.ask("HEAD", target, &[]).value("ETag").clone_into(&mut tag);
        !tag.starts_with("W/")
    });
    // Once more: now it is kept.
    assert_eq!(browser.ask("HEAD", target, &[]).value("ETag"), tag);
    tag
}

#[test]
fn what_is_kept_needs_no_path() {
    let site = Site::new();
    let long = vec![b'b'; 256 * 1024 + 1];
    fs::create_dir(site.path("d")).expect("a folder");
    fs::write(site.path("d/a"), "a").expect("a file");
    fs::write(site.path("d/b"), &long).expect("a file");
    let files = site.files().recheck(Duration::from_secs(3600));
    let (_keeps, address) = mount("/", files.clone());
    let (_keeps_none, other) = mount("/", files.max_cached(0));
    let (mut browser, mut without) = (Browser::connect(address), Browser::connect(other));
    for target in ["/d/a", "/d/b"] {
        settled(&mut browser, target);
        settled(&mut without, target);
    }
    fs::rename(site.path("d"), site.path("e")).expect("it is ours");
    // The path leads nowhere now, and nobody followed it: one is in memory, and the other is open.
    assert_eq!(browser.get("/d/a", &[]).body, b"a");
    assert!(browser.get("/d/b", &[]).body == long);
    for target in ["/d/a", "/d/b"] {
        assert_eq!(without.get(target, &[]).status, 404, "{target}");
    }
}

#[test]
fn changes_of_a_file_are_noticed_at_once() {
    let site = Site::new();
    let path = site.path("a");
    fs::write(&path, "first").expect("a file");
    let (_server, address) = mount("/", site.files().recheck(Duration::from_secs(3600)));
    let mut browser = Browser::connect(address);
    let mut tags = HashSet::new();
    let mut is = |browser: &mut Browser, what: &str| {
        let answer = browser.get("/a", &[]);
        assert_eq!((answer.status, String::from_utf8_lossy(&answer.body)), (200, what.into()));
        let settled = settled(browser, "/a");
        assert_eq!(settled.body, what.as_bytes());
        assert!(tags.insert(settled.value("ETag").to_owned()), "a tag of its own for {what}");
    };
    is(&mut browser, "first");
    // In place, and of the same length.
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.write_all_at(b"again", 0))
        .expect("it is ours");
    is(&mut browser, "again");
    fs::write(site.path("new"), "other")
        .and_then(|()| fs::rename(site.path("new"), &path))
        .expect("it is ours");
    is(&mut browser, "other");
    fs::File::options().write(true).open(&path).and_then(|file| file.set_len(2)).expect("it is ours");
    is(&mut browser, "ot");
    fs::File::options()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(b"her one"))
        .expect("it is ours");
    is(&mut browser, "other one");
    fs::remove_file(&path).expect("it is ours");
    assert_eq!(browser.get("/a", &[]).status, 404);
    fs::create_dir(&path).expect("a folder");
    assert_eq!(browser.get("/a", &[]).status, 301);
}

#[test]
fn another_way_to_a_file_is_noticed_in_time() {
    let site = Site::new();
    for (name, text) in [("d/a", "old"), ("e/a", "new"), ("n", "plain")] {
        site.write_now(name, text);
    }
    let recheck = Duration::from_millis(100);
    let (_server, address) = mount("/", site.files().recheck(recheck));
    let mut browser = Browser::connect(address);
    settled(&mut browser, "/d/a");
    let accepts = "Accept-Encoding: gzip";
    assert_eq!(browser.get("/n", &[accepts]).body, b"plain");
    fs::rename(site.path("d"), site.path("f")).expect("it is ours");
    fs::rename(site.path("e"), site.path("d")).expect("it is ours");
    site.write("n.gz", "gz");
    let changed = Instant::now();
    let mut notices = |target: &str, what: &[u8], by: Instant| {
        until("the new way is taken", || {
            let asked = Instant::now();
            let answer = browser.get(target, &[accepts]);
            assert!(answer.body == what || asked < by + recheck, "{answer:?}");
            answer.body == what
        });
    };
    notices("/d/a", b"new", changed);
    notices("/n", b"gz", changed);
    fs::remove_file(site.path("n.gz")).expect("it is ours");
    notices("/n", b"plain", Instant::now());
}

/// A version of a file: its number, again and again.
fn version(number: u32, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Has four clients ask for `/a` for four seconds, and until one has seen enough, while `change` makes one version of
/// it after the other.
fn race(site: &Site, len: usize, change: impl Fn(u32) + Sync, pause: impl Fn(u32) -> Duration) {
    let (_server, address) = mount("/", site.files().recheck(Duration::from_millis(10)).max_cached(1 << 20));
    let (is_over, has_seen_enough) = (AtomicBool::new(false), AtomicBool::new(false));
    let answers = thread::scope(|scope| {
        let ask = || {
            let mut browser = Browser::connect(address);
            let mut seen = HashSet::new();
            while !is_over.load(Ordering::Relaxed) {
                browser.send(request("GET", "/a", &[]));
                let Some(answer) = browser.try_answer(false) else {
                    // It was cut, since the file was changed while it was sent.
                    browser = Browser::connect(address);
                    continue;
                };
                match answer.status {
                    200 => {}
                    503 => continue,
                    status => panic!("{status}"),
                }
                let number = u32::from_le_bytes(answer.body[..4].try_into().expect("four bytes"));
                let tag = answer.value("ETag").to_owned();
                // A weak tag promises nothing of the bytes.
                assert!(answer.body == version(number, len) || tag.starts_with("W/"), "{tag} of a mixture");
                seen.insert((tag, number));
                if seen.len() > 2 && seen.iter().any(|(tag, _)| !tag.starts_with("W/")) {
                    has_seen_enough.store(true, Ordering::Relaxed);
                }
            }
            seen
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let began = Instant::now();
        let mut number = 1;
        let goes_on = |least, most| {
            let least = began.elapsed() < Duration::from_secs(least);
            least || (!has_seen_enough.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(most))
        };
        while goes_on(4, 60) {
            change(number);
            number += 1;
            thread::sleep(pause(number));
        }
        is_over.store(true, Ordering::Relaxed);
        let seen = clients.into_iter().flat_map(|client| client.join().expect("whole versions"));
        seen.collect::<HashSet<_>>()
    });
    let strong = || answers.iter().filter(|(tag, _)| !tag.starts_with("W/"));
    let tags: HashSet<_> = strong().map(|(tag, _)| tag).collect();
    assert_eq!(tags.len(), strong().count(), "one version has one tag, and a tag one version");
    assert!(answers.len() > 2 && strong().count() > 0, "{} versions", answers.len());
}

#[test]
fn a_file_that_is_replaced_again_and_again_is_always_one_version() {
    for len in [40 * 1024, 1200 * 1024] {
        let site = Site::new();
        fs::write(site.path("a"), version(0, len)).expect("a file");
        let change = |number| {
            fs::write(site.path("b"), version(number, len)).expect("a file");
            fs::rename(site.path("b"), site.path("a")).expect("it is ours");
        };
        // Some live for so long that they are kept in memory.
        race(&site, len, change, |number| Duration::from_millis(if number % 32 == 0 { 1100 } else { 1 }));
    }
}

#[test]
fn a_file_that_is_rewritten_again_and_again_is_one_version_by_its_tag() {
    for len in [40 * 1024, 1200 * 1024] {
        let site = Site::new();
        fs::write(site.path("a"), version(0, len)).expect("a file");
        let file = fs::File::options().write(true).open(site.path("a")).expect("it is ours");
        let change = |number| file.write_all_at(&version(number, len), 0).expect("it is ours");
        // The next one comes when the tag of the last has just become a strong one.
        race(&site, len, change, |number| Duration::from_millis(995 + u64::from(number * 7 % 10)));
    }
}

#[test]
fn what_is_changed_while_it_is_sent_is_cut_and_not_mixed() {
    let len: u64 = 64 << 20;
    type Change = fn(&fs::File);
    let changes: [(&str, Change); 4] = [
        ("rewritten", |file| file.write_all_at(b"!", 1 << 20).expect("it is ours")),
        ("shorter", |file| file.set_len(1 << 20).expect("it is ours")),
        ("longer", |file| file.set_len(65 << 20).expect("it is ours")),
        ("empty", |file| file.set_len(0).expect("it is ours")),
    ];
    let site = Site::new();
    fs::create_dir(site.path("d")).expect("a folder");
    let files = changes.map(|(what, change)| {
        let file = fs::File::create(site.path(&format!("d/{what}"))).expect("a file");
        file.set_len(len).expect("a sparse one");
        (what, change, file)
    });
    let (_server, address) = mount("/", site.files().recheck(Duration::from_secs(3600)));
    let mut browser = Browser::connect(address);
    for (what, ..) in &files {
        settled_head(&mut browser, &format!("/d/{what}"));
    }
    // Their paths lead nowhere now: they are kept open. Another one is opened when it is asked for.
    fs::rename(site.path("d"), site.path("e")).expect("it is ours");
    fs::create_dir(site.path("d")).expect("a folder");
    let opened = fs::File::create(site.path("d/opened")).expect("a file");
    opened.set_len(len).expect("a sparse one");
    for (what, change, file) in files.into_iter().chain([("opened", changes[0].1, opened)]) {
        let mut browser = Browser::connect(address);
        browser.send(request("GET", &format!("/d/{what}"), &[]));
        let head = browser.head().expect("a head");
        assert_eq!((head.status, head.value("Content-Length")), (200, &*len.to_string()), "{what}");
        change(&file);
        let mut rest = Vec::new();
        let mut reader = browser.reader.take(len);
        reader.read_to_end(&mut rest).expect("an end");
        assert!((rest.len() as u64) < len && rest.iter().all(|byte| *byte == 0), "{what}: {}", rest.len());
    }
}

#[test]
fn changes_of_a_long_file_are_noticed_at_once() {
    let len = 600_000;
    let site = Site::new();
    let file = fs::File::create(site.path("a")).expect("a file");
    file.write_all_at(&vec![b'a'; len], 0).expect("it is ours");
    let (_server, address) = mount("/", site.files().recheck(Duration::from_secs(3600)));
    let mut browser = Browser::connect(address);
    let tag = settled_head(&mut browser, "/a");
    assert_eq!(browser.get("/a", &[&format!("If-None-Match: {tag}")]).status, 304);
    let part = browser.get("/a", &["Range: bytes=299999-300001"]);
    assert_eq!((part.status, &part.body[..]), (206, &b"aaa"[..]));
    file.write_all_at(b"b", 300_000).expect("it is ours");
    let part = browser.get("/a", &["Range: bytes=299999-300001"]);
    assert_eq!((part.status, &part.body[..]), (206, &b"aba"[..]));
    assert_eq!(browser.get("/a", &[&format!("If-None-Match: {tag}")]).status, 200);
    let whole = browser.get("/a", &[]);
    assert!(whole.body.len() == len && whole.body[300_000] == b'b' && whole.value("ETag") != tag);
    settled_head(&mut browser, "/a");
    file.set_len(500_000).expect("it is ours");
    assert_eq!(browser.get("/a", &[]).body.len(), 500_000);
    fs::remove_file(site.path("a")).expect("it is ours");
    assert_eq!(browser.get("/a", &[]).status, 404);
}

#[test]
fn what_nobody_asks_for_is_let_go_of() {
    let site = Site::new();
    let lens = [("short", 1000), ("long", 600_000)];
    lens.into_iter().for_each(|(name, len)| drop(site.write_now(name, vec![b'x'; len])));
    let files = site.files().recheck(Duration::from_secs(3600));
    let (_lets_go, address) = mount("/", files.clone().idle(Duration::from_millis(50)));
    let (_keeps, other) = mount("/", files);
    let (mut browser, mut without) = (Browser::connect(address), Browser::connect(other));
    for (name, _) in lens {
        settled_head(&mut browser, &format!("/{name}"));
        settled_head(&mut without, &format!("/{name}"));
        fs::remove_file(site.path(name)).expect("it is ours");
    }
    until("one server has let go of both, and the other of none", || deleted(&site) == 2);
    // It begins again.
    site.write_now("long", vec![b'y'; 600_000]);
    settled_head(&mut browser, "/long");
    fs::remove_file(site.path("long")).expect("it is ours");
    until("that is gone too", || deleted(&site) == 2);
    assert_eq!(browser.get("/long", &[]).status, 404);
}

/// How many files of this site are open here, though they were removed.
fn deleted(site: &Site) -> usize {
    let root = fs::canonicalize(site.root()).expect("a folder");
    let descriptors = fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
    let names = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.filter(|name| name.starts_with(&root) && name.to_string_lossy().ends_with("(deleted)")).count()
}

#[test]
fn what_one_handler_keeps_for_long_holds_up_no_other() {
    let site = Site::new();
    ["kept", "let-go-of"].into_iter().for_each(|name| drop(site.write_now(name, vec![b'x'; 600_000])));
    let files = site.files().recheck(Duration::from_secs(3600));
    let short = files.clone().idle(Duration::from_millis(50));
    let routes = [("/long", files.idle(Duration::from_secs(3600))), ("/short", short)];
    let (_server, address) = mount_each(routes);
    let mut browser = Browser::connect(address);
    settled_head(&mut browser, "/long/kept");
    settled_head(&mut browser, "/short/let-go-of");
    fs::remove_file(site.path("let-go-of")).expect("it is ours");
    until("it is let go of", || deleted(&site) == 0);
    assert_eq!(browser.get("/long/kept", &[]).body.len(), 600_000);
}

#[test]
fn what_is_replaced_while_it_is_sent_is_sent_to_its_end() {
    let len = 16 << 20;
    let mut bytes = vec![0; len];
    keyed::fill(3, 0, &mut bytes);
    for is_removed in [false, true] {
        let site = Site::new();
        let path = site.write("a", &bytes);
        let (_server, address) = site.serve();
        let mut browser = Browser::connect(address);
        browser.send(request("GET", "/a", &[]));
        browser.head().expect("a head");
        if is_removed {
            fs::remove_file(&path).expect("it is ours");
        } else {
            fs::write(site.path("b"), vec![1; len])
                .and_then(|()| fs::rename(site.path("b"), &path))
                .expect("ours");
        }
        let mut body = vec![0; len];
        browser.reader.read_exact(&mut body).expect("all of it");
        assert_eq!(keyed::differs(3, 0, &body), None);
    }
}

#[test]
fn handlers_of_one_worker_never_mix() {
    let (one, two) = (Site::new(), Site::new());
    for (site, text) in [(&one, "one"), (&two, "two")] {
        site.write_now("a", text);
        site.write_now("index.html", text);
        site.write_now("other.html", "other");
    }
    let files = one.files().recheck(Duration::from_secs(3600));
    let routes = [
        ("/one", files.clone()),
        ("/two", two.files()),
        ("/other", files.clone().index("other.html")),
        ("/listing", files.index(None).listing(true)),
    ];
    let (_server, address) = mount_each(routes);
    let mut browser = Browser::connect(address);
    for target in ["/one/a", "/two/a", "/one/", "/two/", "/other/"] {
        settled(&mut browser, target);
    }
    for _ in 0..2 {
        for (target, what) in
            [("/one/a", "one"), ("/two/a", "two"), ("/one/", "one"), ("/two/", "two"), ("/other/", "other")]
        {
            assert_eq!(browser.get(target, &[]).body, what.as_bytes(), "{target}");
        }
        assert!(browser.get("/listing/", &[]).body.starts_with(b"<!DOCTYPE html>"));
    }
}

#[test]
fn the_smallest_memory_is_enough() {
    let site = Site::new();
    let mut bytes = vec![0; 1 << 20];
    keyed::fill(5, 0, &mut bytes);
    site.write("large", &bytes);
    site.write("small", &bytes[..20_000]);
    let (server, address) = mount_with(support::tiny(), "/", site.files());
    let mut browser = Browser::connect(address);
    for _ in 0..3 {
        assert!(browser.get("/large", &[]).body == bytes);
        assert!(browser.get("/small", &[]).body == bytes[..20_000]);
        let parts = browser.get("/large", &["Range: bytes=0-9999,500000-599999,-7"]).parts();
        assert_eq!(parts.iter().map(|(_, bytes)| bytes.len()).collect::<Vec<_>>(), [10_000, 100_000, 7]);
        assert!(parts[1].1 == bytes[500_000..600_000] && parts[2].1 == bytes[(1 << 20) - 7..]);
    }
    drop(browser);
    support::common::nothing_held(&server);
}
