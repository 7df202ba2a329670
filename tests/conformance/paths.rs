//! Files: which path leads to which, and which leads nowhere.

use crate::answer::Answer;
use crate::case::{After, Table, Want, get, want, with};
use crate::site::{MODIFIED_DATE, big};

pub fn table(t: &mut Table) {
    t.rfc("9110 8.3, 8.6, 8.8, 14.3");
    let hello = want(&[200])
        .body("hello from a file\n")
        .field("content-length", "18")
        .field("last-modified", MODIFIED_DATE)
        .field("accept-ranges", "bytes")
        .without("content-encoding")
        .check(|answer| answer.field("etag").map(drop).ok_or("no ETag".into()));
    t.one("a file", get("/static/hello.txt", ""), hello.clone(), After::Open).slowly();
    t.at_every_split();
    t.one("a file, with a query", get("/static/hello.txt?v=1&../..", ""), hello, After::Open);
    let old = "GET /static/hello.txt HTTP/1.0\r\n\r\n";
    t.one("a file in HTTP/1.0", old, want(&[200]).body("hello from a file\n"), After::Closed);
    t.one(
        "an empty file",
        get("/static/empty.txt", ""),
        want(&[200]).body("").field("content-length", "0"),
        After::Open,
    );
    t.one("a large file", get("/static/big.bin", ""), want(&[200]).body(big()), After::Open);
    let turns = (0..5).map(|_| (get("/static/big.bin", "").into_bytes(), want(&[200]).body(big()))).collect();
    t.pipeline("five large files", turns, After::Open);
    let old = "GET /static/big.bin HTTP/1.0\r\n\r\n";
    t.one("a large file in HTTP/1.0", old, want(&[200]).body(big()), After::Closed);
    kinds(t);
    names(t);
    folders(t);
    escapes(t);
}

fn kinds(t: &mut Table) {
    t.rfc("9110 8.3");
    let kinds: [(&str, &[&str]); 10] = [
        ("hello.txt", &["text/plain"]),
        ("page.html", &["text/html"]),
        ("style.css", &["text/css"]),
        ("script.js", &["text/javascript", "application/javascript"]),
        ("data.json", &["application/json"]),
        ("image.png", &["image/png"]),
        ("image.svg", &["image/svg+xml"]),
        ("code.wasm", &["application/wasm"]),
        ("UPPER.TXT", &["text/plain", "application/octet-stream"]),
        ("thing.unheardof", &["application/octet-stream", ""]),
    ];
    for (name, kinds) in kinds {
        let typed = want(&[200]).check(move |answer: &Answer| {
            let found = answer.field("content-type").unwrap_or_default();
            let found = found.split(';').next().unwrap_or_default();
            if kinds.contains(&found) { Ok(()) } else { Err(format!("Content-Type: {found:?}")) }
        });
        t.one(format!("the type of {name}"), get(&format!("/static/{name}"), ""), typed, After::Open);
    }
}

fn names(t: &mut Table) {
    t.rfc("3986 2.1, 2.4");
    for (path, body) in [
        ("/static/with%20space.txt", "space"),
        ("/static/plus+.txt", "plus"),
        ("/static/plus%2b.txt", "plus"),
        ("/static/plus%2B.txt", "plus"),
        ("/static/gr%c3%bcn.txt", "green"),
        ("/static/gr%C3%BCn.txt", "green"),
        ("/static/100%25.txt", "percent"),
        ("/static/a:b;c,d.txt", "signs"),
        ("/static/%68%65%6c%6c%6f.txt", "hello from a file\n"),
        ("/static/hello%2etxt", "hello from a file\n"),
        ("/static/dir/inner.txt", "inner\n"),
    ] {
        t.serve(format!("GET {path}"), get(path, ""), body);
    }
    for path in [
        "/static/not-there",
        "/static/hello",
        "/static/hello.tx",
        "/static/HELLO.TXT",
        "/static/with+space.txt",
        "/static/100%2525.txt",
        "/static/dir/not-there",
        "/static/not-there/hello.txt",
        "/static/dangling",
        "/static/hello.txt/inner",
        "/static/%2a",
    ] {
        t.allow(format!("GET {path}"), &[404], get(path, ""));
    }
    let gone: &[u16] = &[404, 400, 403];
    for path in [
        "/static/100%.txt",
        "/static/hello.txt%00",
        "/static/hello.txt%00.html",
        "/static/%00",
        "/static/hello.txt%0a",
        "/static/%ff%fe",
        "/static/hello.txt/",
        "/static/hello.txt/.",
        "/static/hello.txt%20",
        "/static/circle",
        "/static/dir%2finner.txt%2f",
    ] {
        t.allow(format!("GET {path}"), gone, get(path, ""));
    }
    for length in [255, 256, 1000, 5000] {
        let name = get(&format!("/static/{}", "n".repeat(length)), "");
        t.allow(format!("a name of {length}"), &[404, 400, 414], name);
        let deep = get(&format!("/static/{}", "d/".repeat(length / 2)), "");
        t.allow(format!("a path {} deep", length / 2), &[404, 400, 414], deep);
    }
    for path in [
        "/static/.hidden",
        "/static/...",
        "/static/inside",
        "/static/dir%2finner.txt",
        "/static/dir//inner.txt",
    ] {
        t.allow(format!("GET {path}"), &[200, 403, 404, 400, 301, 308], get(path, ""));
    }
}

fn folders(t: &mut Table) {
    t.rfc("9110 15.4; 3986 6.2");
    let page = |title: &str| want(&[200]).body(format!("<!doctype html><title>{title}</title>\n"));
    t.one("the root's index", get("/static/", ""), page("index"), After::Open);
    t.one("the root's index by name", get("/static/index.html", ""), page("index"), After::Open);
    t.one("a folder's index", get("/static/dir/", ""), page("inner"), After::Open);
    let there = |at: &'static str| {
        want(&[301, 302, 307, 308, 200, 404]).check(move |answer| {
            let location = answer.field("location").unwrap_or_default();
            if location.ends_with(at) { Ok(()) } else { Err(format!("Location: {location:?}")) }
        })
    };
    t.one("a folder without its slash", get("/static/dir", ""), there("dir/"), After::Any);
    t.one("the root without its slash", get("/static", ""), there("static/"), After::Any);
    for path in [
        "/static//a.example/..",
        "/static/%2fa.example/%2e%2e",
        "//a.example/%2e%2e",
        "/static//a.example",
        "//",
    ] {
        t.allow(
            format!("GET {path} leads nowhere else"),
            &[404, 400, 403, 301, 302, 307, 308, 200],
            get(path, ""),
        );
    }
    let unlisted: fn(&Answer) -> Result<(), String> = |answer| {
        let body = String::from_utf8_lossy(&answer.body);
        if body.contains("inner.txt") { Err("a list of files".into()) } else { Ok(()) }
    };
    t.one(
        "a folder without an index",
        get("/static/noindex/", ""),
        want(&[404, 403]).check(unlisted),
        After::Any,
    );
    t.one(
        "and without its slash",
        get("/static/noindex", ""),
        want(&[404, 403, 301, 302, 307, 308]),
        After::Any,
    );
    t.allow("a pipe, which must not wait", &[404, 403], get("/static/pipe", ""));
    t.allow("HEAD of a pipe", &[404, 403], with("HEAD", "/static/pipe", "", ""));
    let index = want(&[200]).field("content-length", "36");
    t.one("HEAD of an index", with("HEAD", "/static/", "", ""), index, After::Open);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let request = with(method, "/static/hello.txt", "Content-Length: 4\r\n", "evil");
        let refused = want(&[405]).lists("allow", &["GET", "HEAD"]);
        t.one(format!("{method} of a file"), request, refused, After::Any);
    }
    t.serve("the file after all that", get("/static/hello.txt", ""), "hello from a file\n");
}

fn escapes(t: &mut Table) {
    t.rfc("3986 5.2.4; 9110 17.3");
    // What is beyond the root is never told; that is checked for every answer.
    let gone: &[u16] = &[404, 400, 403];
    for path in [
        "/static/../secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/%2e%2e%2fsecret.txt",
        "/static/%2E%2E%2Fsecret.txt",
        "/static/.%2e/secret.txt",
        "/static/%2e./secret.txt",
        "/static/dir/../../secret.txt",
        "/static/dir/..%2f..%2fsecret.txt",
        "/static/dir/%2e%2e/%2e%2e/secret.txt",
        "/static/./../secret.txt",
        "/static//../secret.txt",
        "/static/..//secret.txt",
        "/static/..;/secret.txt",
        "/static/..%5csecret.txt",
        "/static/..%255csecret.txt",
        "/static/%252e%252e%252fsecret.txt",
        "/static/..%252fsecret.txt",
        "/static/%c0%ae%c0%ae/secret.txt",
        "/static/%c0%ae%c0%ae%c0%afsecret.txt",
        "/static/..%c0%afsecret.txt",
        "/static/%u002e%u002e/secret.txt",
        "/static/..%00/secret.txt",
        "/static/../../../../../../../../etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/static/%2fetc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static//etc/passwd",
        "/static///etc/passwd",
        "/static/../Cargo.toml",
        "/static/....//secret.txt",
        "/static/..\\secret.txt",
        "/static/outside",
        "/static/absolute",
        "/static/passwd",
        "/static/up/secret.txt",
        "/static/up/../secret.txt",
        "/static/dir/../up/secret.txt",
        "/../secret.txt",
        "/../../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/static/proc/self/environ",
        "/static/up",
        "/static/dir/%2e%2e%5c%2e%2e%5csecret.txt",
    ] {
        for method in ["GET", "HEAD"] {
            let silent: Want = want(if path == "/static/up" { &[404, 403, 400, 301, 308] } else { gone });
            t.one(format!("{method} {path}"), with(method, path, "", ""), silent, After::Any);
        }
        let absolute = format!("GET http://a{path} HTTP/1.1\r\nHost: a\r\n\r\n");
        t.allow(format!("GET http://a{path}"), &[404, 403, 400, 301, 308], absolute);
    }
    // These come back below the root, or are refused for trying.
    for path in [
        "/static/dir/../hello.txt",
        "/static/./hello.txt",
        "/static/dir/%2e%2e/hello.txt",
        "/static/.",
        "/static/..",
    ] {
        t.allow(format!("GET {path}"), &[200, 301, 308, 400, 403, 404], get(path, ""));
    }
    let through = "/static/../static/hello.txt";
    t.allow(format!("GET {through}"), &[200, 301, 308, 400, 403, 404], get(through, ""));
}
