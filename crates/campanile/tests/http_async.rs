//! Handlers that wait: what they are given and may answer, the bodies on both sides, and all that may go wrong.

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use campanile::Bytes;
use campanile::http::{self, Body, Error, OwnedRequest, Router};

use support::common::{keyed, nothing_held};
use support::http::{Client, Reply, everywhere, post, post_chunked};
use support::pieces::{Counted, listed, turns};
use support::serve;

fn answers() -> Router {
    Router::new()
        .get("/at-once", |_, response| response.text(200, "at once"))
        .get("/text", http::wait(async |_| "text"))
        .get("/string", http::wait(async |_| String::from("string")))
        .get("/long", http::wait(async |_| "l".repeat(100_000)))
        .get("/bytes", http::wait(async |_| Bytes::from_static(b"bytes")))
        .get("/vec", http::wait(async |_| b"vec".to_vec()))
        .get("/nothing", http::wait(async |_| ()))
        .get("/status", http::wait(async |_| 418_u16))
        .get("/named-status", http::wait(async |_| ::http::StatusCode::ACCEPTED))
        .get("/status-body", http::wait(async |_| (201, "made")))
        .get("/fields", http::wait(async |_| (200, [("content-type", "text/csv"), ("X-A", "b")], "a,b")))
        .get("/respond", http::wait(async |_| http::respond(|response| response.status(410).close().empty())))
        .get("/response", http::wait(response))
        .get("/ok", http::wait(async |_| Ok::<_, Error>("ok")))
        .get("/error", http::wait(async |_| Err::<(), _>(Error::new(404, "none of that"))))
        .get(
            "/any-error",
            http::wait(async |_| -> Result<String, Error> { Ok("x".parse::<u32>()?.to_string()) }),
        )
        .get("/stream", http::wait(async |_| http::pieces(listed(["a", "", "bc", "def"]))))
        .get("/sized", http::wait(async |_| http::pieces(listed(["a", "bc"])).sized(3)))
        .get("/frames", http::wait(async |_| http::frames(String::from("frames"))))
        .get("/written", http::wait(async |_| (200, [("Content-Type", "text/csv")], http::stream(write))))
}

async fn response(request: OwnedRequest) -> Result<::http::Response<Bytes>, ::http::Error> {
    let greeting = request.query().unwrap_or("none").to_owned();
    ::http::Response::builder().status(203).header("X-Greeting", greeting).body(Bytes::from_static(b"made"))
}

async fn write(mut writer: http::BodyWriter) -> Result<(), Error> {
    for n in 0..3 {
        writer.write(format!("{n},")).await?;
        turns(n).await;
    }
    writer.send(Bytes::from(vec![b'x'; 10_000])).await?;
    writer.flush().await?;
    writer.set_trailers([("X-Sum", &b"3"[..])]);
    Ok(())
}

#[test]
fn whatever_is_an_answer_is_sent() {
    everywhere(
        || http::Http::new(answers()),
        |client, _| {
            let mut get = |target: &str| client.get(target);
            for (target, status, body) in [
                ("/at-once", 200, "at once"),
                ("/text", 200, "text"),
                ("/string", 200, "string"),
                ("/bytes", 200, "bytes"),
                ("/vec", 200, "vec"),
                ("/nothing", 200, ""),
                ("/status", 418, ""),
                ("/named-status", 202, ""),
                ("/status-body", 201, "made"),
                ("/fields", 200, "a,b"),
                ("/response?hello", 203, "made"),
                ("/ok", 200, "ok"),
                ("/error", 404, "none of that\n"),
                ("/any-error", 500, "internal server error\n"),
                ("/stream", 200, "abcdef"),
                ("/sized", 200, "abc"),
                ("/frames", 200, "frames"),
            ] {
                let reply = get(target);
                assert_eq!((reply.status, reply.text(), reply.closes()), (status, body, false), "{target}");
            }
            let kind = |reply: Reply| reply.field("Content-Type").map(str::to_owned);
            assert_eq!(kind(get("/string")).as_deref(), Some("text/plain; charset=utf-8"));
            assert_eq!(kind(get("/bytes")), None);
            let fields = get("/fields");
            assert_eq!((fields.field("X-A"), fields.head.matches("ontent-").count()), (Some("b"), 2));
            assert_eq!(kind(fields).as_deref(), Some("text/csv"));
            assert_eq!(get("/response?hello").field("X-Greeting"), Some("hello"));
            assert_eq!(get("/sized").field("Content-Length"), Some("3"));
            assert_eq!(get("/frames").field("Content-Length"), Some("6"));
            assert!(get("/stream").field("Transfer-Encoding").is_some());
            assert_eq!(get("/long").body.len(), 100_000);
            let written = get("/written");
            assert_eq!((&written.body[..6], written.body.len()), (&b"0,1,2,"[..], 10_006));
            assert_eq!(
                (written.trailers.as_str(), kind(written.clone()).as_deref()),
                ("X-Sum: 3\r\n", Some("text/csv"))
            );
            for target in ["/text", "/long", "/stream", "/sized", "/written"] {
                client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
                assert_eq!(client.try_reply(true).expect("a head").status, 200, "{target}");
            }
            let last = client.get("/respond");
            assert_eq!((last.status, last.closes()), (410, true));
            client.ends();
        },
    );
}

/// All that a handler sees of a request.
async fn seen(request: OwnedRequest) -> String {
    let fields: Vec<_> = request.fields().map(|field| format!("{}={:?}", field.name, field.value)).collect();
    turns(2).await;
    format!(
        "{} {} {} {} {:?} {:?} {:?} {:?} {:?} {} {:?}",
        request.method().as_str(),
        request.target().as_str(),
        request.path(),
        request.path_below(),
        request.query(),
        request.param("name"),
        request.decoded_param("name"),
        request.host(),
        request.text_field("x-text"),
        request.version().as_str(),
        fields,
    )
}

#[test]
fn the_head_is_there_after_it_was_waited() {
    let make = || {
        http::Http::new(
            Router::new()
                .route("GET", "/see/{name}", http::wait(seen))
                .route("PURGE", "/see/{name}", http::wait(seen))
                .mount("/below", http::wait(seen)),
        )
    };
    everywhere(make, |client, _| {
        client.send("GET /see/a%20b?q HTTP/1.1\r\nHost: h:1\r\nX-Text: t\r\nx-raw: \u{fc}\r\n\r\n");
        let expected = "GET /see/a%20b?q /see/a%20b /see/a%20b Some(\"q\") Some(\"a%20b\") Some(\"a b\") \
                        Some(\"h:1\") Some(\"t\") HTTP/1.1 \
                        [\"Host=[104, 58, 49]\", \"X-Text=[116]\", \"x-raw=[195, 188]\"]";
        assert_eq!(client.reply().text(), expected);
        client.send("PURGE http://o/see/x HTTP/1.1\r\nHost: other\r\n\r\n");
        let reply = client.reply();
        assert!(reply.text().starts_with("PURGE http://o/see/x /see/x /see/x None"), "{}", reply.text());
        assert!(reply.text().contains("Some(\"o\")"), "{}", reply.text());
        client.send("GET /below/c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert!(reply.text().starts_with("GET /below/c /below/c /c None None None None None HTTP/1.0"));
    });
}

fn bodies() -> Router {
    Router::new()
        .post(
            "/length",
            http::wait(async |mut request: OwnedRequest| -> Result<String, Error> {
                let whole = request.body().collect(100_000).await?;
                Ok(format!("{} {:?}", whole.len(), request.body().trailers()))
            }),
        )
        .post("/count", http::wait(count))
        .post("/echo", http::wait(async |request: OwnedRequest| request.into_body()))
        .post(
            "/echo-late",
            http::wait(async |request: OwnedRequest| {
                turns(3).await;
                http::pieces(request.into_body())
            }),
        )
        .post(
            "/echo-frames",
            http::wait(async |request: OwnedRequest| -> Result<_, Error> {
                let request = ::http::Request::<Body>::try_from(request)?;
                Ok(::http::Response::new(request.into_body()).map(http::frames))
            }),
        )
        .post(
            "/echo-written",
            http::wait(async |request: OwnedRequest| {
                let mut body = request.into_body();
                http::stream(async move |mut writer| {
                    while let Some(piece) = body.next().await {
                        writer.send(piece?).await?;
                    }
                    Ok(())
                })
            }),
        )
        .post("/impatient", http::wait(impatient))
        .post("/unread", http::wait(async |_| "unread"))
        .post(
            "/some",
            http::wait(async |mut request: OwnedRequest| -> Result<String, Error> {
                let first = request.body().next().await.transpose()?;
                Ok(format!("{}", first.map_or(0, |first| first[0])))
            }),
        )
}

async fn count(mut request: OwnedRequest) -> Result<String, Error> {
    let (mut bytes, mut wrong) = (0, None);
    while let Some(piece) = request.body().next().await {
        let piece = piece?;
        wrong = wrong.or(keyed::differs(1, bytes, &piece));
        bytes += piece.len() as u64;
        turns((bytes % 3) as usize).await;
    }
    assert!(request.body().is_complete());
    Ok(format!("{bytes} {wrong:?}"))
}

/// Reads by futures that it drops at each point where they wait, and by both ways in turn.
async fn impatient(mut request: OwnedRequest) -> Result<String, Error> {
    let (mut bytes, mut wrong, mut dropped) = (0, None, 0);
    loop {
        let body = request.body();
        let piece = match bytes % 3 {
            0 | 1 => first_of(body.next(), dropped % 4).await,
            _ => first_of(body.collect(1 << 30), dropped % 4)
                .await
                .map(|whole| Some(whole).filter(|whole| !whole.as_ref().is_ok_and(Bytes::is_empty))),
        };
        let Some(piece) = piece else {
            dropped += 1;
            // Sooner or later it waits for long enough.
            turns(1).await;
            continue;
        };
        let Some(piece) = piece else { break };
        let piece = piece?;
        wrong = wrong.or(keyed::differs(1, bytes, &piece));
        bytes += piece.len() as u64;
    }
    Ok(format!("{bytes} {wrong:?}"))
}

/// What the future came to, unless so many turns were over before; then it is dropped where it was.
async fn first_of<F: Future>(future: F, after: usize) -> Option<F::Output> {
    let (mut future, mut turns) = (Box::pin(future), Box::pin(turns(after)));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        turns.as_mut().poll(cx).map(|()| None)
    })
    .await
}

#[test]
fn bodies_come_and_go_as_they_were_sent() {
    everywhere(
        || http::Http::new(bodies()),
        |client, _| {
            for len in [0, 1, 100, 5000, 70_000] {
                let mut body = vec![0; len];
                keyed::fill(1, 0, &mut body);
                for target in ["/echo", "/echo-late", "/echo-frames", "/echo-written"] {
                    for request in [post(target, &body), post_chunked(target, &body, 777, "")] {
                        client.send(request);
                        let reply = client.reply();
                        assert!(reply.body == body, "{target}, {len} bytes: {}", reply.body.len());
                        assert!(!reply.closes(), "{target}, {len} bytes");
                    }
                }
                for target in ["/count", "/impatient"] {
                    for request in [post(target, &body), post_chunked(target, &body, 777, "")] {
                        client.send(request);
                        assert_eq!(client.reply().text(), format!("{len} None"), "{target}");
                    }
                }
                client.send(post("/length", &body));
                assert_eq!(client.reply().text(), format!("{len} []"));
            }
            client.send(post_chunked("/length", b"hello", 2, "X-T: v\r\n"));
            assert_eq!(client.reply().text(), "5 [(\"X-T\", [118])]");
            client.send(post_chunked("/echo-frames", b"hello", 2, "X-T: v\r\n"));
            let reply = client.reply();
            assert_eq!((reply.text(), reply.trailers.to_ascii_lowercase()), ("hello", "x-t: v\r\n".into()));
            client.send([post("/unread", &[b'x'; 50_000]), post("/some", &[b'y'; 50_000])].concat());
            assert_eq!((client.reply().text(), client.reply().text()), ("unread", "121"));
        },
    );
}

#[test]
fn what_is_too_long_is_refused_before_it_comes_and_a_100_only_sent_when_it_is_waited_for() {
    let expecting = |target: &str, len: usize| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {len}\r\n\r\n")
    };
    everywhere(
        || http::Http::new(bodies()),
        |client, _| {
            for target in ["/length", "/echo", "/echo-late", "/echo-frames", "/echo-written", "/impatient"] {
                client.send(expecting(target, 5));
                assert_eq!(client.reply().head, "HTTP/1.1 100 Continue\r\n\r\n", "{target}");
                client.send("hello");
                let reply = client.reply();
                assert_eq!((reply.status, reply.closes()), (200, false), "{target}");
            }
            client.send(expecting("/length", 100_001));
            let reply = client.reply();
            assert_eq!((reply.status, reply.closes()), (413, true));
            client.ends();
        },
    );
    let (server, address) = serve(campanile::Config::default(), || http::Http::new(bodies()));
    let reply = |request: &[u8]| {
        let mut client = Client::connect(address);
        let _ = client.wire.out.write_all(request);
        client.reply()
    };
    let chunked = reply(&post_chunked("/length", &[b'x'; 200_000], 150_000, ""));
    assert_eq!((chunked.status, chunked.closes()), (413, true));
    let unread = reply(expecting("/unread", 5).as_bytes());
    assert_eq!((unread.text(), unread.closes()), ("unread", true));
    let invalid = reply(b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
    assert_eq!((invalid.status, invalid.closes()), (400, true));
    nothing_held(&server);
}

#[test]
fn errors_and_panics_are_answered_before_the_head_and_cut_the_answer_after_it() {
    let make = || {
        http::Http::new(
            Router::new()
                .get("/panic", http::wait(async |_| -> &str { panic!("as the test wants") }))
                .get(
                    "/panic-late",
                    http::wait(async |_| -> &str {
                        turns(2).await;
                        panic!("as the test wants")
                    }),
                )
                .get(
                    "/error-late",
                    http::wait(async |_| -> Result<&str, Error> {
                        turns(2).await;
                        Err(Error::new(409, "late"))
                    }),
                )
                .get(
                    "/cut",
                    http::wait(async |_| {
                        http::stream(async |mut writer| {
                            writer.write("begun").await?;
                            turns(2).await;
                            Err(Error::new(500, "as the test wants"))
                        })
                    }),
                )
                .get(
                    "/panic-cut",
                    http::wait(async |_| {
                        http::stream(async |mut writer| {
                            writer.write("begun").await?;
                            turns(2).await;
                            panic!("as the test wants")
                        })
                    }),
                )
                .get("/short", http::wait(async |_| http::pieces(listed(["abc"])).sized(4)))
                .get("/longer", http::wait(async |_| http::pieces(listed(["abc", "def"])).sized(4))),
        )
    };
    let (server, address) = serve(campanile::Config::default(), make);
    for (target, status, closes) in
        [("/panic", 500, true), ("/panic-late", 500, true), ("/error-late", 409, false)]
    {
        let mut client = Client::connect(address);
        let reply = client.get(target);
        assert_eq!((reply.status, reply.closes()), (status, closes), "{target}");
        if closes {
            client.ends();
        } else {
            assert_eq!(client.get(target).status, status);
        }
    }
    for target in ["/cut", "/panic-cut", "/short", "/longer"] {
        let mut client = Client::connect(address);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.try_reply(false).expect_err("it is incomplete");
    }
    nothing_held(&server);
    let counted = support::common::counted(&server);
    assert_eq!((counted.panicked, counted.accepted), (3, 7), "each costs its own connection");
}

#[test]
fn state_of_the_worker_is_captured_by_reference() {
    let make = || {
        let (visits, dropped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&dropped);
        http::Http::new(
            Router::new()
                .get(
                    "/",
                    http::wait(async move |_| {
                        let _counted = Counted(&counted);
                        visits.set(visits.get() + 1);
                        turns(1).await;
                        visits.get().to_string()
                    }),
                )
                .get("/dropped", http::wait(async move |_| dropped.get().to_string())),
        )
    };
    everywhere(make, |client, _| {
        for n in 1..5 {
            assert_eq!(client.get("/").text(), n.to_string());
            assert_eq!(client.get("/dropped").text(), n.to_string());
        }
    });
}
