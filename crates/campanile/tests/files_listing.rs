//! Listings of directories, and what they and the files in memory may cost.

mod support;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::common::{LONG, alone, process, role, succeeds, until};
use support::web::{Answer, Browser, Site, mount, request};

/// Asks for a listing until nobody else is in the way.
fn list(browser: &mut Browser, method: &str, target: &str) -> Answer {
    let mut answer = Answer::default();
    until("few listings at once", || {
        answer = browser.ask(method, target, &[]);
        answer.status != 503
    });
    answer
}

#[test]
fn a_listing_links_what_there_is_and_no_more() {
    let site = Site::new();
    for name in ["d/b.txt", "d/a.txt", "d/.hidden", "d/<i>&\"'.txt", "d/sub/x", "index/index.html"] {
        site.write(name, "12345");
    }
    let (_server, address) = mount("/files", site.files().listing(true));
    let mut browser = Browser::connect(address);
    let answer = list(&mut browser, "GET", "/files/d/");
    assert_eq!((answer.status, answer.value("Content-Type")), (200, "text/html; charset=utf-8"));
    assert!(answer.value("Content-Security-Policy").starts_with("default-src 'none'"));
    let page = String::from_utf8(answer.body).expect("text");
    let links: Vec<_> = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links, ["../", "./sub/", "./%3Ci%3E%26%22%27.txt", "./a.txt", "./b.txt"]);
    assert!(!page.contains("<i>") && !page.contains(".hidden"));
    for link in links.iter().filter_map(|link| link.strip_prefix("./")).filter(|link| !link.ends_with('/')) {
        assert_eq!(browser.get(&format!("/files/d/{link}"), &[]).body, b"12345", "{link}");
    }
    assert_eq!(browser.get("/files/d", &[]).value("Location"), "/files/d/");
    assert_eq!(browser.get("/files/index/", &[]).body, b"12345");
    assert_eq!(list(&mut browser, "GET", "/files/none/").status, 404);
    let head = list(&mut browser, "HEAD", "/files/d/");
    assert_eq!((head.status, head.value("Content-Length")), (200, page.len().to_string().as_str()));
    let (_server, address) = mount("/", site.files());
    assert_eq!(Browser::connect(address).get("/d/", &[]).status, 404);
}

#[test]
fn a_long_listing_is_cut_and_says_so_and_blocks_nobody() {
    let site = Site::new();
    fs::create_dir(site.path("d")).expect("a folder");
    for number in 0..20_000 {
        fs::File::create(site.path(&format!("d/{number:05}"))).expect("a file");
    }
    // Hidden ones take no place in it, and do not hide that it is cut.
    for number in 0..500 {
        fs::File::create(site.path(&format!("d/.{number}"))).expect("a file");
    }
    site.write("a", "a");
    let (_server, address) = mount("/", site.files().listing(true));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut browser = Browser::connect(address);
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                assert_eq!(browser.get("/a", &[]).body, b"a");
                longest = longest.max(began.elapsed());
                thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        let began = Instant::now();
        let answer = list(&mut Browser::connect(address), "GET", "/d/");
        let alone = began.elapsed();
        let page = String::from_utf8(answer.body).expect("text");
        assert_eq!(page.matches("<bdi>").count(), 10_001);
        assert!(page.contains("only 10000 are shown"));
        // More at once than are read at once.
        let mut browsers: Vec<_> = (0..24).map(|_| Browser::connect(address)).collect();
        browsers.iter_mut().for_each(|browser| browser.send(request("GET", "/d/", &[])));
        let answers: Vec<_> = browsers.iter_mut().map(|browser| browser.answer(false)).collect();
        let count = |status| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!(count(200) + count(503), 24);
        assert!(count(200) >= 1 && count(503) >= 1, "{} and {}", count(200), count(503));
        let refused = answers.iter().find(|answer| answer.status == 503).expect("one of them");
        assert_eq!(refused.value("Retry-After"), "1");
        // And then there is room for others again.
        until("a listing", || browsers[0].get("/d/", &[]).status == 200);
        is_over.store(true, Ordering::Relaxed);
        let longest = others.join().expect("answers");
        eprintln!("a listing took {alone:?}; another request meanwhile {longest:?} at most");
        // What would be wrong is waiting for all the listings.
        assert!(longest < LONG / 2, "{longest:?}");
    });
}

#[test]
fn files_in_memory_are_bounded() {
    if role().is_none() {
        succeeds(alone("files_in_memory_are_bounded", "server"));
        return;
    }
    const FILES: usize = 2000;
    let site = Site::new();
    let bytes = vec![b'x'; 40 * 1024];
    for number in 0..FILES {
        site.write(&number.to_string(), &bytes);
    }
    let (_server, address) = site.serve();
    let mut browser = Browser::connect(address);
    let (memory, descriptors) =
        (process::resident_kib(std::process::id(), "RssAnon"), process::descriptors());
    let mut opened = 0;
    until("files are old enough to be kept", || {
        for number in 0..FILES {
            assert_eq!(browser.get(&format!("/{number}"), &[]).body.len(), bytes.len());
        }
        opened = process::descriptors() - descriptors;
        opened > 100
    });
    for number in (0..FILES).rev() {
        assert_eq!(browser.get(&format!("/{number}"), &[]).body.len(), bytes.len());
    }
    opened = opened.max(process::descriptors() - descriptors);
    let growth = process::resident_kib(std::process::id(), "RssAnon").saturating_sub(memory);
    eprintln!("{growth} KiB and {opened} descriptors more");
    assert!(opened > 100 && opened <= 1024, "{opened} descriptors");
    // 16 MiB of files, and what it takes to remember, to read and to send them.
    assert!(growth < 24 * 1024, "{growth} KiB");
}
