//! The client: what it sends, what it makes of answers, right and wrong ones, and which connections it uses again.

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use campanile::http::{self, Client, ClientConfig, ClientError, Content, OwnedRequest, Payload, Router};
use campanile::{Bytes, Dial, Pool, PoolConfig, Server, ServerHandle, Stream, sleep};

use support::common::{LONG, counted, keyed, nothing_held, tcp, until};
use support::pieces::made;
use support::worker::{idle, let_go_of_all, on};

type Response = ::http::Response<Content>;

fn config() -> ClientConfig {
    ClientConfig { head_timeout: LONG, body_timeout: LONG, ..ClientConfig::default() }
}

fn request<B>(method: &str, to: SocketAddr, path: &str, body: B) -> ::http::Request<B> {
    ::http::Request::builder().method(method).uri(format!("http://{to}{path}")).body(body).expect("a request")
}

async fn text(mut response: Response) -> String {
    let body = response.body_mut().collect(1 << 20).await.expect("a body");
    String::from_utf8(body.to_vec()).expect("text")
}

/// Pieces of the stream of key 1, so many bytes in all.
fn keyed_pieces(len: usize, piece: usize) -> Payload {
    let mut at = 0;
    Payload::frames(Unerring(made(move || {
        let n = piece.min(len - at);
        let mut bytes = vec![0; n];
        keyed::fill(1, at as u64, &mut bytes);
        at += n;
        (n > 0).then(|| bytes.into())
    })))
}

/// A stream that never fails, as a body.
struct Unerring<S>(S);

impl<S> http_body::Body for Unerring<S>
where
    S: futures_core::Stream<Item = Result<Bytes, http::Error>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        std::pin::Pin::new(&mut self.0)
            .poll_next(cx)
            .map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece.expect("it never fails")))))
    }
}

async fn told(mut request: OwnedRequest) -> Result<String, http::Error> {
    let body = request.body().collect(1 << 20).await?;
    let fields: Vec<_> = request
        .fields()
        .map(|field| format!("{}: {}", field.name, String::from_utf8_lossy(field.value)))
        .collect();
    Ok(format!(
        "{} {} [{}] {}",
        request.method().as_str(),
        request.target().as_str(),
        fields.join(", "),
        body.len()
    ))
}

fn upstream() -> (ServerHandle, SocketAddr) {
    let make = || {
        http::Http::new(
            Router::new()
                .get("/told", http::wait(told))
                .post("/told", http::wait(told))
                .post("/echo", http::wait(async |request| request.into_body()))
                .put("/echo", http::wait(async |request| request.into_body()))
                .get("/length", |_, response| response.status(200).body("twelve bytes"))
                .get("/none", |_, response| response.status(204).empty())
                .get("/unchanged", |_, response| response.status(304).empty())
                .get("/slow", http::wait(async |_| sleep(LONG).await))
                .get(
                    "/trailers",
                    http::wait(async |_| {
                        http::stream(async |mut writer| {
                            writer.write("body").await?;
                            writer.set_trailers([("X-Sum", &b"4"[..])]);
                            Ok(())
                        })
                    }),
                ),
        )
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(make).expect("a free port");
    let address = tcp(&server);
    (server, address)
}

#[test]
fn requests_are_sent_as_they_are_and_connections_used_again() {
    let (server, to) = upstream();
    let here = idle();
    on(&here, async move || {
        let client = Client::with(config());
        let told = text(client.send(request("GET", to, "/told?a=b", ())).await.expect("an answer")).await;
        assert_eq!(told, format!("GET /told?a=b [Host: {to}] 0"));
        let mut post = request("POST", to, "/told", "hello");
        for (name, value) in [
            ("x-a", "b"),
            ("host", "other.test"),
            ("content-length", "7"),
            ("te", "trailers"),
            ("connection", "x-b"),
            ("keep-alive", "timeout=1"),
        ] {
            post.headers_mut().append(name, value.parse().expect("a value"));
        }
        let told = text(client.send(post).await.expect("an answer")).await;
        assert_eq!(told, "POST /told [Host: other.test, x-a: b, Content-Length: 5] 5");
        for (method, path, status) in
            [("HEAD", "/length", 200), ("GET", "/none", 204), ("GET", "/unchanged", 304)]
        {
            let answer = client.send(request(method, to, path, ())).await.expect("an answer");
            assert_eq!(answer.status(), status);
            assert!(answer.body().is_complete());
        }
        let answer = client.send(request("GET", to, "/length", ())).await.expect("an answer");
        assert_eq!(answer.body().remaining(), Some(12));
        assert_eq!(text(answer).await, "twelve bytes");
        let mut answer = client.send(request("GET", to, "/trailers", ())).await.expect("an answer");
        assert_eq!(&answer.body_mut().collect(100).await.expect("a body")[..], b"body");
        assert_eq!(answer.body().trailers()["x-sum"], "4");
    });
    assert_eq!(counted(&server).accepted, 1, "all by one connection");
    let_go_of_all(&here);
    nothing_held(&server);
}

#[test]
fn bodies_are_streamed_both_ways_at_once() {
    const LEN: usize = 3 << 20;
    let (server, to) = upstream();
    let here = idle();
    on(&here, async move || {
        let client = Client::with(config());
        for piece in [1000, 70_000] {
            let echo = request("POST", to, "/echo", keyed_pieces(LEN, piece));
            let mut answer = client.send(echo).await.expect("an answer");
            let mut at = 0;
            while let Some(bytes) = answer.body_mut().next().await {
                let bytes = bytes.expect("more of it");
                assert_eq!(keyed::differs(1, at as u64, &bytes), None);
                at += bytes.len();
            }
            assert_eq!(at, LEN);
        }
        let mut whole = vec![0; LEN];
        keyed::fill(1, 0, &mut whole);
        let mut answer = client.send(request("PUT", to, "/echo", whole.clone())).await.expect("an answer");
        assert!(answer.body_mut().collect(LEN).await.expect("a body") == whole);
        let mut answer = client.send(request("PUT", to, "/echo", whole)).await.expect("an answer");
        let error = answer.body_mut().collect(LEN - 1).await.expect_err("it is longer");
        assert!(matches!(error, ClientError::TooLong { .. }), "{error}");
    });
    let_go_of_all(&here);
    nothing_held(&server);
}

/// A server that answers every request with these bytes, and ends the connection after them if it says so.
fn scripted(answer: &'static str, ends: bool) -> (ServerHandle, SocketAddr) {
    let serve = async move |mut stream: Stream| -> io::Result<()> {
        while let Some(line) = stream.read_line(1000).await? {
            if line.is_empty() {
                stream.write(answer.as_bytes()).await?;
                if ends {
                    break;
                }
            }
        }
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let address = tcp(&server);
    (server, address)
}

/// Status, body, and whether the connection was kept.
async fn outcome(to: SocketAddr) -> Result<(u16, Bytes, bool), ClientError> {
    let pool = Pool::new(Dial::from(to), PoolConfig::default());
    let mut answer = Client::with(config()).send_to(&pool, request("GET", to, "/", ())).await?;
    let body = answer.body_mut().collect(1000).await?;
    Ok((answer.status().as_u16(), body, pool.idle() == 1))
}

#[test]
fn answers_end_where_their_framing_says_or_are_errors() {
    let here = idle();
    for (answer, ends, expected) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, Ok((200, "hi", true))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", true, Ok((200, "hi", false))),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", true, Ok((200, "hi", false))),
        ("HTTP/1.1 200 OK\r\n\r\nhi", true, Ok((200, "hi", false))),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            false,
            Ok((200, "hi", true)),
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
            false,
            Ok((204, "", true)),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", false, Ok((200, "hi", false))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", true, Err("ended inside a body")),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
            true,
            Err("ended inside a body"),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi0\r\n",
            false,
            Err("does not end in CRLF"),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", false, Err("more than one")),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false, Err("status line")),
        ("HTTP/1.1 200 OK\r\nContent-", true, Err("ended inside")),
        ("HTTP/2 200 OK\r\n\r\n", false, Err("status line")),
        ("", true, Err("without an answer")),
    ] {
        let (server, to) = scripted(answer, ends);
        let found = on(&here, async move || outcome(to).await.map_err(|error| error.to_string()));
        match expected {
            Ok((status, body, is_kept)) => {
                assert_eq!(found, Ok((status, Bytes::from(body), is_kept)), "{answer:?}");
            }
            Err(part) => {
                let error = found.expect_err(answer);
                assert!(error.contains(part), "{answer:?}: {error}");
            }
        }
        drop(server);
    }
    let_go_of_all(&here);
}

#[test]
fn a_head_without_end_is_refused_and_slow_servers_are_given_up() {
    let here = idle();
    let (_endless, to) =
        scripted(Box::leak(format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(20_000)).into_boxed_str()), false);
    let error = on(&here, async move || outcome(to).await.map_err(|error| error.to_string()));
    assert!(error.expect_err("it is too long").contains("too long"));
    for (answer, what) in
        [("HTTP/1.1 200", "answer"), ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh", "more")]
    {
        let (_silent, to) = scripted(answer, false);
        let short = Duration::from_millis(50);
        let error = on(&here, async move || {
            let client = Client::with(ClientConfig { head_timeout: short, body_timeout: short, ..config() });
            let mut answer = client.send(request("GET", to, "/", ())).await?;
            answer.body_mut().collect(10).await
        });
        let error = error.expect_err("it comes to no end");
        assert!(error.is_timeout() && error.to_string().contains(what), "{error}");
    }
    let_go_of_all(&here);
}

/// Answers one request on each connection, or as many as `each` says, and then ends when the next one comes.
fn forgetful(each: usize) -> (ServerHandle, SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let serve = async move |mut stream: Stream| -> io::Result<()> {
        let mut left = each;
        while let Some(line) = stream.read_line(1000).await? {
            if line.is_empty() {
                counter.fetch_add(1, Ordering::Relaxed);
                if left == 0 {
                    return Err(io::ErrorKind::Other.into());
                }
                left -= 1;
                stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
            }
        }
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let address = tcp(&server);
    (server, address, seen)
}

#[test]
fn a_connection_that_was_just_closed_costs_no_request_that_may_be_repeated() {
    let here = idle();
    for (method, streams, repeats) in
        [("GET", false, true), ("PUT", false, true), ("POST", false, false), ("PUT", true, false)]
    {
        let (_server, to, seen) = forgetful(1);
        let is_answered = on(&here, async move || {
            let client = Client::with(config());
            client.send(request("GET", to, "/", ())).await.expect("an answer");
            let payload = if streams { keyed_pieces(0, 1) } else { Payload::empty() };
            match client.send(request(method, to, "/", payload)).await {
                Ok(_) => true,
                Err(ClientError::Closed) => false,
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(is_answered, repeats, "{method}");
        until("it has seen them", || seen.load(Ordering::Relaxed) == if repeats { 3 } else { 2 });
    }
    // A new one that is closed is an answer of a kind, and asked no second time.
    let (_server, to, seen) = forgetful(0);
    let error =
        on(&here, async move || Client::with(config()).send(request("GET", to, "/", ())).await.map(drop));
    assert!(matches!(error, Err(ClientError::Closed)));
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    let_go_of_all(&here);
}

/// Answers before it has the body.
#[test]
fn an_early_answer_is_heard_while_the_body_is_sent() {
    let here = idle();
    let refusing = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let (_server, to) = scripted(refusing, true);
    let told = on(&here, async move || {
        let endless = keyed_pieces(usize::MAX, 10_000);
        let answer = Client::with(config()).send(request("POST", to, "/", endless)).await.expect("an answer");
        (answer.status().as_u16(), text(answer).await)
    });
    assert_eq!(told, (413, "no".into()));
    let_go_of_all(&here);
}

#[test]
fn a_server_that_is_asked_first_gets_the_body_when_it_says_so() {
    let here = idle();
    let (server, to) = upstream();
    let expecting = move |path: &str| {
        let mut request = request("POST", to, path, keyed_pieces(10, 10));
        request.headers_mut().insert("expect", "100-continue".parse().expect("a value"));
        request
    };
    let (_refusing, refused_at) = scripted("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", false);
    on(&here, async move || {
        let client = Client::with(ClientConfig { continue_timeout: LONG, ..config() });
        let mut answer = client.send(expecting("/echo")).await.expect("an answer");
        assert_eq!(answer.body_mut().collect(100).await.expect("a body").len(), 10);
        let mut other = expecting("/");
        *other.uri_mut() = format!("http://{refused_at}/").parse().expect("a URI");
        assert_eq!(client.send(other).await.expect("an answer").status(), 417);
        // Who says nothing gets it after a while.
        let client = Client::with(ClientConfig { continue_timeout: Duration::from_millis(10), ..config() });
        let mut answer = client.send(expecting("/told")).await.expect("an answer");
        answer.body_mut().collect(1000).await.expect("a body");
    });
    let_go_of_all(&here);
    nothing_held(&server);
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let here = idle();
    on(&here, async || {
        for (uri, part) in [
            ("https://localhost/", "no encryption"),
            ("/path", "http://HOST"),
            ("http://local_host\u{7f}:80/", ""),
            ("http://127.0.0.1:99999/", "http://HOST"),
            ("http://name:secret@127.0.0.1/", "host"),
        ] {
            let Ok(request) = ::http::Request::get(uri).body(()) else { continue };
            let error = Client::new().send(request).await.expect_err(uri).to_string();
            assert!(error.contains(part), "{uri}: {error}");
        }
        let error = Client::new()
            .send(::http::Request::connect("http://localhost:1").body(()).expect("a request"))
            .await
            .expect_err("CONNECT");
        assert!(error.is_unsent(), "{error}");
    });
}
