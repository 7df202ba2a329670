//! Files over HTTP: what is found, by which name and in which coding, and what is not.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use support::common::{LONG, is_root, keyed, nothing_held};
use support::web::{Browser, Site, mount};

const LARGE: usize = 3 << 20;

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    keyed::fill(7, 0, &mut bytes);
    bytes
}

#[test]
fn files_of_every_length_come_whole_and_head_says_the_same() {
    let site = Site::new();
    let max = 256 * 1024;
    let lens = [0, 1, 4095, 4096, 4097, 64 * 1024, max - 1, max, max + 1, LARGE];
    for len in lens {
        site.write(&format!("{len}.bin"), noise(len));
    }
    let (server, address) = site.serve();
    let mut browser = Browser::connect(address);
    // The second time short ones are in memory.
    for (len, turn) in lens.into_iter().flat_map(|len| [(len, 1), (len, 2)]) {
        let target = format!("/{len}.bin");
        let answer = browser.get(&target, &[]);
        assert_eq!((answer.status, answer.body.len()), (200, len), "{target}, {turn}");
        assert_eq!(keyed::differs(7, 0, &answer.body), None, "{target}, {turn}");
        assert_eq!(answer.value("Content-Length"), len.to_string());
        assert_eq!(answer.value("Content-Type"), "application/octet-stream");
        assert_eq!(answer.value("X-Content-Type-Options"), "nosniff");
        assert_eq!(answer.value("Accept-Ranges"), "bytes");
        assert_eq!(answer.value("Vary"), "Accept-Encoding");
        assert_eq!(answer.field("Cache-Control"), None);
        for name in ["Last-Modified", "ETag", "Date"] {
            assert!(!answer.value(name).is_empty());
        }
        let mut head = browser.ask("HEAD", &target, &[]);
        let date = |(name, _): &mut (String, String)| name == "Date";
        let mut fields = answer.fields.clone();
        fields.extract_if(.., date).for_each(drop);
        head.fields.extract_if(.., date).for_each(drop);
        assert_eq!((head.status, head.fields), (200, fields), "{target}, {turn}");
    }
    drop(browser);
    nothing_held(&server);
}

#[test]
fn names_may_be_anything_that_a_name_can_be() {
    let site = Site::new();
    let names: [(&[u8], &str); 8] = [
        (b"a b.txt", "/a%20b.txt"),
        ("gr\u{fc}n.txt".as_bytes(), "/gr%C3%BCn.txt"),
        (b"\xff\xfe.txt", "/%ff%FE.txt"),
        (b"100%.txt", "/100%25.txt"),
        (b"%61.txt", "/%2561.txt"),
        (b"a?b#c.txt", "/a%3Fb%23c.txt"),
        (b"..txt", "/%2e.txt"),
        (b"-", "/-"),
    ];
    for (name, _) in names {
        fs::write(site.root().join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let (_server, address) = mount("/", site.files().hidden(true));
    let mut browser = Browser::connect(address);
    for (name, target) in names {
        let answer = browser.get(target, &[]);
        assert_eq!((answer.status, &answer.body[..]), (200, name), "{target}");
    }
    let long = format!("/{}", "x".repeat(255));
    let too_long = format!("/{}", "x".repeat(256));
    let deep = format!("/{}", "x/".repeat(3000));
    for target in [long.as_str(), &too_long, &deep, "/not/there", "/a%20b.txt/", "/a%20b.txt/c", "/a.txt.gz"]
    {
        assert_eq!(browser.get(target, &[]).status, 404, "{target}");
    }
    assert_eq!(browser.ask("GET", "/a%00b", &[]).status, 400);
}

#[test]
fn a_directory_is_its_index_and_is_beneath_a_slash() {
    let site = Site::new();
    site.write("index.html", "root");
    site.write("a/index.html", "a");
    site.write("a b/index.html", "space");
    site.write("empty/x", "x");
    fs::create_dir_all(site.path("odd/index.html")).expect("a folder");
    for (prefix, below) in [("/", ""), ("/static", "/static"), ("/p/q", "/p/q")] {
        let (_server, address) = mount(prefix, site.files());
        let mut browser = Browser::connect(address);
        let mut is = |target: &str, status: u16, what: &str| {
            let answer = browser.get(&format!("{below}{target}"), &[]);
            assert_eq!(answer.status, status, "{below}{target}");
            match status {
                200 => assert_eq!(answer.body, what.as_bytes(), "{below}{target}"),
                301 => assert_eq!(answer.value("Location"), format!("{below}{what}"), "{below}{target}"),
                _ => {}
            }
        };
        for _ in 0..2 {
            is("/", 200, "root");
            is("/index.html", 200, "root");
            is("/?q", 200, "root");
            is("/a/", 200, "a");
            is("/a//./", 200, "a");
            is("/a/../a%20b/", 200, "space");
            is("/a", 301, "/a/");
            is("/a?x=1&y=//z", 301, "/a/?x=1&y=//z");
            is("/a%20b", 301, "/a%20b/");
            is("/a/index.html/", 404, "");
            is("/empty/", 404, "");
            is("/empty", 301, "/empty/");
            is("/odd/", 404, "");
        }
        if !below.is_empty() {
            is("", 301, "/");
            is("?q=1", 301, "/?q=1");
        }
    }
    let (_server, address) = mount("/", site.files().index("x"));
    assert_eq!(Browser::connect(address).get("/empty/", &[]).body, b"x");
    let (_server, address) = mount("/", site.files().index(None));
    assert_eq!(Browser::connect(address).get("/", &[]).status, 404);
}

#[test]
fn only_get_and_head_have_an_answer() {
    let site = Site::new();
    site.write("a", "a");
    let (_server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "FOO"] {
        let answer = browser.ask(method, "/a", &["Content-Length: 0"]);
        assert_eq!((answer.status, answer.value("Allow")), (405, "GET, HEAD, OPTIONS"), "{method}");
    }
    let answer = browser.ask("OPTIONS", "/a", &[]);
    assert_eq!((answer.status, answer.value("Allow")), (204, "GET, HEAD, OPTIONS"));
}

#[test]
fn nothing_outside_of_the_root_is_served() {
    let site = Site::new();
    fs::write(site.folder().join("secret"), "secret").expect("a file");
    fs::create_dir(site.folder().join("root2")).expect("a folder");
    fs::write(site.folder().join("root2/secret"), "secret").expect("a file");
    site.write("dir/inside", "inside");
    let links = [
        ("up", "../secret"),
        ("dir/up", "../../secret"),
        ("through", "dir/../../secret"),
        ("sibling", "../root2/secret"),
        ("sibling-dir", "../root2"),
        ("passwd", "/etc/passwd"),
        ("zero", "/dev/zero"),
        ("self", concat!("/proc/self/root", "/etc/passwd")),
        ("magic", "/proc/self/cwd"),
        ("loop", "loop"),
        ("nowhere", "nothing"),
        ("around", concat!("../root", "/dir/inside")),
    ];
    for (name, to) in links {
        symlink(to, site.path(name)).expect("a link");
    }
    symlink(site.path("dir/inside"), site.path("absolute")).expect("a link");
    symlink("dir/inside", site.path("within")).expect("a link");
    symlink("dir", site.path("folder")).expect("a link");
    symlink("../dir/../folder/inside", site.path("dir/winding")).expect("a link");
    site.write("plain", "plain");
    symlink("../secret", site.path("plain.gz")).expect("a link");
    let (_server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for _ in 0..2 {
        let others = ["sibling-dir/secret", "magic/Cargo.toml", "absolute", "dir/up/", "up/"];
        for name in links.iter().map(|(name, _)| *name).chain(others) {
            let answer = browser.get(&format!("/{name}"), &[]);
            assert_eq!(answer.status, 404, "{name}");
            assert!(!answer.body.windows(6).any(|window| window == b"secret"));
        }
        for name in ["within", "folder/inside", "dir/winding", "dir/../within"] {
            let answer = browser.get(&format!("/{name}"), &[]);
            assert_eq!((answer.status, &answer.body[..]), (200, &b"inside"[..]), "{name}");
        }
        let ways = [
            "/../secret",
            "/dir/../../secret",
            "/%2e%2e/secret",
            "/.%2E/secret",
            "//../secret",
            "/dir/..//../secret",
        ];
        for way in ways {
            assert_eq!(browser.get(way, &[]).status, 400, "{way}");
        }
        for way in
            ["/..%2fsecret", "/%2e%2e%2fsecret", "/..%5csecret", "/dir/..%2f..%2fsecret", "/....//secret"]
        {
            assert_eq!(browser.get(way, &[]).status, 404, "{way}");
        }
        // A neighbour that is out of bounds is none.
        let answer = browser.get("/plain", &["Accept-Encoding: gzip"]);
        assert_eq!(
            (answer.status, answer.field("Content-Encoding"), &answer.body[..]),
            (200, None, &b"plain"[..])
        );
    }
    // The root is the directory that was opened, wherever it is now, and whatever has its name.
    fs::rename(site.root(), site.folder().join("moved")).expect("it is ours");
    fs::rename(site.folder().join("root2"), site.root()).expect("it is ours");
    assert_eq!(browser.get("/secret", &[]).status, 404);
    assert_eq!(browser.get("/plain", &[]).body, b"plain");
    fs::rename(site.root(), site.folder().join("root2")).expect("it is ours");
    fs::rename(site.folder().join("moved"), site.root()).expect("it is ours");
}

#[test]
fn what_is_no_file_is_not_there_and_blocks_nobody() {
    let site = Site::new();
    site.write("file", "file");
    let make = |name: &str, kind| mknodat(CWD, site.path(name), kind, Mode::RUSR | Mode::WUSR, 0);
    make("pipe", FileType::Fifo).expect("a pipe");
    make("file.gz", FileType::Fifo).expect("a pipe");
    fs::create_dir(site.path("file.br")).expect("a folder");
    fs::create_dir(site.path("d")).expect("a folder");
    make("d/index.html", FileType::Fifo).expect("a pipe");
    let _socket = UnixListener::bind(site.path("socket")).expect("a short path");
    symlink("/dev/zero", site.path("zero")).expect("a link");
    let (_server, address) = site.serve();
    let mut browser = Browser::connect(address);
    let began = Instant::now();
    for _ in 0..3 {
        for target in ["/pipe", "/d/", "/socket", "/zero"] {
            assert_eq!(browser.get(target, &[]).status, 404, "{target}");
        }
        let answer = browser.get("/file", &["Accept-Encoding: br, gzip"]);
        assert_eq!((answer.status, answer.field("Content-Encoding")), (200, None));
    }
    assert!(began.elapsed() < LONG / 2, "{:?}", began.elapsed());
}

#[test]
fn what_may_not_be_read_is_forbidden() {
    let site = Site::new();
    let path = site.write("private", "private");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o0)).expect("it is ours");
    let (_server, address) = site.serve();
    let expected = if is_root() { 200 } else { 403 };
    assert_eq!(Browser::connect(address).get("/private", &[]).status, expected);
}

#[test]
fn dot_files_are_hidden_unless_they_are_wanted() {
    let site = Site::new();
    for name in [".env", ".git/config", "a/.b", ".well-known/x"] {
        site.write(name, name);
    }
    let (_server, address) = site.serve();
    let mut browser = Browser::connect(address);
    for name in [".env", ".git/config", "a/.b", "a/%2eb", ".git/", ".git", ".nothing"] {
        assert_eq!(browser.get(&format!("/{name}"), &[]).status, 404, "{name}");
    }
    assert_eq!(browser.get("/.well-known/x", &[]).body, b".well-known/x");
    let (_server, address) = mount("/", site.files().hidden(true));
    let mut browser = Browser::connect(address);
    for name in [".env", ".git/config", "a/.b"] {
        assert_eq!(browser.get(&format!("/{name}"), &[]).body, name.as_bytes());
    }
}

#[test]
fn the_neighbour_that_the_client_likes_best_is_sent() {
    let site = Site::new();
    for (name, text) in
        [("a.css", "plain"), ("a.css.gz", "g"), ("a.css.br", "br"), ("a.css.zst", "zst"), ("b.css", "b")]
    {
        site.write(name, text);
    }
    site.write("dir/index.html", "plain");
    site.write("dir/index.html.gz", "g");
    let (_server, address) = mount("/", site.files().cache_control("no-cache"));
    let mut browser = Browser::connect(address);
    let rows = [
        ("", "plain", None),
        ("gzip", "g", Some("gzip")),
        ("x-gzip", "g", Some("gzip")),
        ("gzip, br, zstd", "br", Some("br")),
        ("gzip, zstd", "zst", Some("zstd")),
        ("gzip;q=1, br;q=0.5", "g", Some("gzip")),
        ("gzip;q=0, br;q=0, zstd;q=0", "plain", None),
        ("identity, gzip;q=0.5", "plain", None),
        ("*", "br", Some("br")),
        ("*;q=0, gzip", "g", Some("gzip")),
        ("deflate", "plain", None),
        ("identity;q=0, gzip;q=0.001", "g", Some("gzip")),
    ];
    for _ in 0..2 {
        let mut tags = Vec::new();
        for (accepted, body, coding) in rows {
            let answer = browser.get("/a.css", &[&format!("Accept-Encoding: {accepted}")]);
            assert_eq!((answer.status, &answer.body[..]), (200, body.as_bytes()), "{accepted}");
            assert_eq!(answer.field("Content-Encoding"), coding, "{accepted}");
            assert_eq!(answer.value("Content-Type"), "text/css; charset=utf-8");
            assert_eq!(
                (answer.value("Vary"), answer.value("Cache-Control")),
                ("Accept-Encoding", "no-cache")
            );
            tags.push((body, answer.value("ETag").to_owned()));
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 4, "one tag for each variant: {tags:?}");
        let answer = browser.get("/dir/", &["Accept-Encoding: gzip"]);
        assert_eq!((answer.value("Content-Encoding"), &answer.body[..]), ("gzip", &b"g"[..]));
        assert_eq!(answer.value("Content-Type"), "text/html; charset=utf-8");
        assert_eq!(browser.get("/b.css", &["Accept-Encoding: br, gzip, identity;q=0"]).status, 406);
        assert_eq!(browser.get("/b.css", &["Accept-Encoding: *;q=0"]).status, 406);
        assert_eq!(browser.get("/b.css", &["Accept-Encoding: br"]).body, b"b");
        // By its own name it is itself.
        let answer = browser.get("/a.css.gz", &["Accept-Encoding: gzip"]);
        assert_eq!((answer.field("Content-Encoding"), &answer.body[..]), (None, &b"g"[..]));
        assert_eq!(answer.value("Content-Type"), "application/gzip");
    }
    let (_server, address) = mount("/", site.files().precompressed(false));
    let answer = Browser::connect(address).get("/a.css", &["Accept-Encoding: br, identity;q=0"]);
    assert_eq!(
        (answer.body, answer.fields.iter().any(|(name, _)| name == "Vary")),
        (b"plain".to_vec(), false)
    );
}
