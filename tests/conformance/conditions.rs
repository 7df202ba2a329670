//! Conditional requests and codings of files.

use crate::case::{After, Table, Want, get, want, with};
use crate::site::{ALPHABET, MODIFIED_DATE, NEIGHBOURS};
use crate::talk::Talk;

const FILE: &str = "/static/alphabet.txt";
const TEXT: &str = "/static/text.txt";
const EARLIER: &str = "Mon, 31 May 2021 23:59:59 GMT";
const LATER: &str = "Tue, 01 Jun 2021 00:00:01 GMT";

/// The table; it has to know the validators that the server made.
pub fn table(t: &mut Table, to: std::net::SocketAddr) {
    let etag = |path: &str, fields: &str| {
        let answer = Talk::to(to).and_then(|mut talk| talk.ask(&get(path, fields)));
        answer.ok().and_then(|answer| answer.field("etag")).unwrap_or_else(|| "\"none\"".into())
    };
    preconditions(t, &etag(FILE, ""));
    codings(t, &etag(TEXT, ""), &etag(TEXT, "Accept-Encoding: gzip\r\n"));
}

fn preconditions(t: &mut Table, etag: &str) {
    let strong = !etag.starts_with("W/");
    let weak = if strong { format!("W/{etag}") } else { etag.to_owned() };
    let opaque = weak.trim_start_matches("W/").to_owned();
    // What compares strongly fails on a weak validator, whatever it says (RFC 9110 8.8.3.2).
    let matched = if strong { 200 } else { 412 };
    let rows: Vec<(&'static str, String, Vec<u16>)> = vec![
        ("9110 13.1.2", format!("If-None-Match: {etag}"), vec![304]),
        ("9110 13.1.2", format!("if-none-match:{etag}"), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: {weak}"), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: {opaque}"), vec![304]),
        ("9110 13.1.2", "If-None-Match: *".into(), vec![304]),
        ("9110 13.1.2", "If-None-Match: \"other\"".into(), vec![200]),
        ("9110 13.1.2", "If-None-Match: W/\"other\"".into(), vec![200]),
        ("9110 13.1.2", "If-None-Match: \"\"".into(), vec![200]),
        ("9110 13.1.2", format!("If-None-Match: \"other\", {etag}"), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: {etag}, \"other\""), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: \"other\",{etag},\"third\""), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: \"a,b\" , {weak}"), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: , ,{etag}"), vec![304, 200]),
        ("9110 13.1.2", format!("If-None-Match: \"other\"\r\nIf-None-Match: {etag}"), vec![304]),
        ("9110 13.1.2", format!("If-None-Match: {}", opaque.trim_matches('"')), vec![200, 304, 400]),
        ("9110 13.1.2", "If-None-Match: \"open".into(), vec![200, 400]),
        ("9110 13.1.2", "If-None-Match:".into(), vec![200, 400]),
        ("9110 13.1.2", format!("If-None-Match: \"x{}", &opaque[1..]), vec![200]),
        (
            "9110 13.1.2",
            format!("If-None-Match: \"{{}}\", \"other, {}\"", opaque.trim_matches('"')),
            vec![200],
        ),
        ("9110 13.1.3", format!("If-Modified-Since: {MODIFIED_DATE}"), vec![304]),
        ("9110 13.1.3", format!("If-Modified-Since: {LATER}"), vec![304]),
        ("9110 13.1.3", format!("If-Modified-Since: {EARLIER}"), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT".into(), vec![304, 200]),
        ("9110 5.6.7", "If-Modified-Since: Tuesday, 01-Jun-21 00:00:00 GMT".into(), vec![304]),
        ("9110 5.6.7", "If-Modified-Since: Tue Jun  1 00:00:00 2021".into(), vec![304]),
        ("9110 5.6.7", "If-Modified-Since: Monday, 31-May-21 23:59:59 GMT".into(), vec![200]),
        ("9110 5.6.7", "If-Modified-Since: Mon May 31 23:59:59 2021".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: garbage".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: 1622505600".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: 0".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since:".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: Tue, 32 Jun 2021 00:00:00 GMT".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: Tue, 01 Jun 2021 25:00:00 GMT".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: 2021-06-01T00:00:00Z".into(), vec![200]),
        ("9110 13.1.3", "If-Modified-Since: Tue, 01 Jun 2021 00:00:00 PST".into(), vec![200, 304]),
        ("9110 13.1.3", format!("If-Modified-Since: {LATER}, {LATER}"), vec![200, 304]),
        ("9110 13.2.2", format!("If-None-Match: \"other\"\r\nIf-Modified-Since: {LATER}"), vec![200]),
        ("9110 13.2.2", format!("If-None-Match: {etag}\r\nIf-Modified-Since: {EARLIER}"), vec![304]),
        ("9110 13.2.2", format!("If-Modified-Since: {EARLIER}\r\nIf-None-Match: {etag}"), vec![304]),
        ("9110 13.1.1", format!("If-Match: {etag}"), vec![matched]),
        ("9110 13.1.1", "If-Match: *".into(), vec![200]),
        ("9110 13.1.1", "If-Match: \"other\"".into(), vec![412]),
        ("9110 13.1.1", format!("If-Match: {weak}"), vec![412]),
        ("9110 13.1.1", format!("If-Match: \"other\", {etag}"), vec![matched]),
        ("9110 13.1.1", "If-Match: \"other\", \"third\"".into(), vec![412]),
        ("9110 13.1.1", format!("If-Match: \"other\"\r\nIf-Match: {etag}"), vec![matched]),
        ("9110 13.1.4", format!("If-Unmodified-Since: {MODIFIED_DATE}"), vec![200]),
        ("9110 13.1.4", format!("If-Unmodified-Since: {LATER}"), vec![200]),
        ("9110 13.1.4", format!("If-Unmodified-Since: {EARLIER}"), vec![412]),
        ("9110 13.1.4", "If-Unmodified-Since: garbage".into(), vec![200]),
        ("9110 5.6.7", "If-Unmodified-Since: Monday, 31-May-21 23:59:59 GMT".into(), vec![412]),
        ("9110 13.2.2", format!("If-Match: {etag}\r\nIf-Unmodified-Since: {EARLIER}"), vec![matched]),
        ("9110 13.2.2", format!("If-Match: *\r\nIf-Unmodified-Since: {EARLIER}"), vec![200]),
        ("9110 13.2.2", format!("If-Match: \"other\"\r\nIf-Unmodified-Since: {LATER}"), vec![412]),
        ("9110 13.2.2", format!("If-Match: *\r\nIf-None-Match: {etag}"), vec![304]),
        ("9110 13.2.2", format!("If-Match: \"other\"\r\nIf-None-Match: {etag}"), vec![412]),
        ("9110 13.2.2", format!("If-Unmodified-Since: {EARLIER}\r\nIf-None-Match: {etag}"), vec![412]),
        ("9110 13.2.2", format!("If-Unmodified-Since: {LATER}\r\nIf-None-Match: {etag}"), vec![304]),
        ("9110 13.2.2", format!("If-Unmodified-Since: {EARLIER}\r\nIf-Modified-Since: {LATER}"), vec![412]),
        ("9110 13.2.2", format!("If-None-Match: {etag}\r\nRange: bytes=0-1"), vec![304]),
        ("9110 13.2.2", format!("If-None-Match: {etag}\r\nRange: bytes=100-"), vec![304]),
        ("9110 13.2.2", "If-Match: \"other\"\r\nRange: bytes=0-1".into(), vec![412]),
        ("9110 13.2.2", format!("If-Modified-Since: {LATER}\r\nRange: bytes=0-1"), vec![304]),
        ("9110 13.2.2", format!("If-Unmodified-Since: {EARLIER}\r\nRange: bytes=0-1"), vec![412]),
    ];
    for (rfc, fields, statuses) in rows {
        t.rfc(rfc);
        for method in ["GET", "HEAD"] {
            // HEAD knows no ranges, but these all end before one is looked at.
            let request = with(method, FILE, &format!("{fields}\r\n"), "");
            let answer = match statuses[0] {
                200 if method == "GET" => want(&statuses).body(ALPHABET),
                304 => unchanged(&statuses, etag),
                _ => want(&statuses),
            };
            t.one(format!("{method} {fields}"), request, answer, After::Open);
        }
    }
    t.rfc("9110 13.2.1");
    for fields in
        ["If-Match: *", "If-None-Match: *", "If-Match: \"x\"", &format!("If-Unmodified-Since: {EARLIER}")]
    {
        let request = get("/static/not-there", &format!("{fields}\r\n"));
        t.allow(format!("{fields} on what is not there"), &[404, 412], request);
        t.serve(format!("{fields} on /plaintext"), get("/plaintext", ""), "Hello, World!");
    }
    let request = with("POST", FILE, &format!("Content-Length: 0\r\nIf-None-Match: {etag}\r\n"), "");
    t.allow("a condition on a method that is not allowed", &[405, 412], request);
    let turns = (0..20).map(|n| {
        let (fields, answer) = match n % 2 {
            0 => (format!("If-None-Match: {etag}\r\n"), want(&[304])),
            _ => (String::new(), want(&[200]).body(ALPHABET)),
        };
        (get(FILE, &fields).into_bytes(), answer)
    });
    let turns = turns.collect();
    t.pipeline("304 and 200 in turns", turns, After::Open).slowly();
    let old = format!("GET {FILE} HTTP/1.0\r\nIf-None-Match: {etag}\r\n\r\n");
    t.one("304 in HTTP/1.0", old, want(&[304]), After::Closed);
}

/// 304 repeats what a 200 would have said of caching, and a length only if it is the file's (RFC 9110 15.4.5, 8.6).
fn unchanged(statuses: &[u16], etag: &str) -> Want {
    want(statuses).field("etag", etag).check(|answer| match answer.field("content-length") {
        Some(length) if length != ALPHABET.len().to_string() => {
            Err(format!("304 with Content-Length: {length}"))
        }
        _ => Ok(()),
    })
}

/// The file as it is, or as one of its neighbours; `identity` names the former.
fn coded(statuses: &[u16], codings: &'static [&'static str], plain: &str) -> Want {
    let plain = plain.to_owned();
    want(statuses).lists("vary", &["Accept-Encoding"]).check(move |answer| {
        let coding = answer.field("content-encoding").unwrap_or_else(|| "identity".into()).to_lowercase();
        if !codings.contains(&&coding[..]) {
            return Err(format!("{coding} instead of {codings:?}"));
        }
        let neighbour = NEIGHBOURS.iter().find(|(_, name, _)| *name == coding);
        let body = neighbour.map_or("a text that has neighbours", |(_, _, text)| text);
        if answer.body != body.as_bytes() {
            return Err(format!("{coding}, but {:?}", String::from_utf8_lossy(&answer.body)));
        }
        let kind = answer.field("content-type").unwrap_or_default();
        if !kind.starts_with("text/plain") {
            return Err(format!("{coding} with Content-Type: {kind:?}"));
        }
        let same = answer.field("etag").is_some_and(|etag| etag == plain);
        if same == (coding == "identity") {
            Ok(())
        } else {
            Err(format!("{coding}: the ETag of another coding"))
        }
    })
}

fn codings(t: &mut Table, plain: &str, zipped: &str) {
    t.rfc("9110 12.5.3, 8.4, 8.8.3.3");
    const ANY: &[&str] = &["gzip", "br", "zstd", "identity"];
    let rows: [(&str, &[u16], &'static [&'static str]); 46] = [
        ("", &[200], &["identity"]),
        ("gzip", &[200], &["gzip"]),
        ("br", &[200], &["br"]),
        ("zstd", &[200], &["zstd"]),
        ("GZIP", &[200], &["gzip"]),
        ("Br", &[200], &["br"]),
        ("x-gzip", &[200], &["gzip", "identity"]),
        ("deflate", &[200], &["identity"]),
        ("compress, deflate", &[200], &["identity"]),
        ("identity", &[200], &["identity"]),
        ("gzipx", &[200], &["identity"]),
        ("gzip, deflate", &[200], &["gzip"]),
        ("gzip, deflate, br", &[200], &["gzip", "br"]),
        ("gzip, deflate, br, zstd", &[200], &["gzip", "br", "zstd"]),
        ("gzip,br", &[200], &["gzip", "br"]),
        ("br , gzip", &[200], &["gzip", "br"]),
        (",gzip,,", &[200], &["gzip"]),
        ("gzip;q=1", &[200], &["gzip"]),
        ("gzip;q=1.000", &[200], &["gzip"]),
        ("gzip;q=0.5", &[200], &["gzip", "identity"]),
        ("gzip;q=0.001", &[200], &["gzip", "identity"]),
        ("gzip ; q=1", &[200], &["gzip"]),
        ("gzip;\tq=1", &[200], &["gzip"]),
        ("gzip;Q=0", &[200], &["identity"]),
        ("gzip;q=0", &[200], &["identity"]),
        ("gzip;q=0.0", &[200], &["identity"]),
        ("gzip;q=0.000", &[200], &["identity"]),
        ("gzip; q=0", &[200], &["identity"]),
        ("gzip;q=0, br", &[200], &["br"]),
        ("br, gzip;q=0", &[200], &["br"]),
        ("gzip;q=1.0, br;q=0.5", &[200], &["gzip"]),
        ("gzip;q=0.5, br;q=1.0", &[200], &["br"]),
        ("br;q=0.8, gzip;q=0.9, zstd;q=0.7", &[200], &["gzip"]),
        ("br;q=0.1, gzip;q=0.2, zstd;q=0.3", &[200], &["zstd", "identity"]),
        ("identity;q=1, gzip;q=0.5", &[200], &["identity"]),
        ("identity;q=0.5, gzip;q=1.0", &[200], &["gzip"]),
        ("identity;q=0, gzip;q=0.5", &[200], &["gzip"]),
        ("*", &[200], ANY),
        ("*;q=0, gzip", &[200], &["gzip"]),
        ("gzip;q=0, *", &[200], &["br", "zstd", "identity"]),
        ("gzip;q=0, br;q=0, zstd;q=0", &[200], &["identity"]),
        ("br;q=0, *;q=0.5", &[200], &["gzip", "zstd", "identity"]),
        ("identity;q=0", &[200, 406, 415], ANY),
        ("*;q=0", &[200, 406, 415], ANY),
        ("gzip;q=2", &[200, 400], ANY),
        ("gzip;q=x, br;q=", &[200, 400], ANY),
    ];
    for (value, statuses, codings) in rows {
        let request = get(TEXT, &format!("Accept-Encoding: {value}\r\n"));
        t.one(format!("Accept-Encoding: {value}"), request, coded(statuses, codings, plain), After::Any);
    }
    t.one("no Accept-Encoding", get(TEXT, ""), coded(&[200], &["identity"], plain), After::Open);
    let two = get(TEXT, "Accept-Encoding: deflate\r\nAccept-Encoding: gzip\r\n");
    t.one("two lines of Accept-Encoding", two, coded(&[200], &["gzip"], plain), After::Open).slowly();
    for fields in ["Accept-Encoding: gzip, br, zstd\r\n", ""] {
        let alone = want(&[200]).body(ALPHABET).without("content-encoding");
        t.one(format!("no neighbours, {fields:?}"), get(FILE, fields), alone, After::Open);
    }
    let style = |fields: &str| get("/static/style.css", fields);
    let zip =
        want(&[200]).body("a style").field("content-encoding", "gzip").lists("vary", &["Accept-Encoding"]);
    t.one("only one neighbour", style("Accept-Encoding: br, gzip\r\n"), zip, After::Open);
    let plain_style =
        want(&[200]).body("a {}").without("content-encoding").lists("vary", &["Accept-Encoding"]);
    t.one("not that neighbour", style("Accept-Encoding: br\r\n"), plain_style, After::Open);
    t.one(
        "a neighbour by its own name",
        get("/static/style.css.gz", ""),
        want(&[200]).body("a style"),
        After::Open,
    );
    let alone = get("/static/only.txt", "Accept-Encoding: gzip\r\n");
    t.allow("a neighbour of nothing", &[404, 200], alone);
    let accepts = |fields: &str| get(TEXT, &format!("Accept-Encoding: gzip\r\n{fields}\r\n"));
    t.one("304 of a coding", accepts(&format!("If-None-Match: {zipped}")), want(&[304]), After::Open);
    let other = accepts(&format!("If-None-Match: {plain}"));
    t.one("the ETag of another coding", other, coded(&[200], &["gzip"], plain), After::Open);
    let other = get(TEXT, &format!("If-None-Match: {zipped}\r\n"));
    t.one("the ETag of a coding, without it", other, coded(&[200], &["identity"], plain), After::Open);
    let text = NEIGHBOURS[0].2;
    let part = want(&[206]).body(&text[..4]).field("content-encoding", "gzip");
    let part = part.field("content-range", format!("bytes 0-3/{}", text.len()));
    t.one("a range of a coding", accepts("Range: bytes=0-3"), part, After::Open);
    let head = with("HEAD", TEXT, "Accept-Encoding: gzip\r\n", "");
    let sized =
        want(&[200]).field("content-encoding", "gzip").field("content-length", text.len().to_string());
    t.one("HEAD of a coding", head, sized, After::Open);
}
