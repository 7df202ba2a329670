//! The router: who answers which path and method. And the types of the `http` crate in place of ours.

mod support;

use campanile::http::{self, Answered, Error, Method, Request, Response, Router, Version, convert};
use campanile::{Bytes, Config, Server};

use support::common::tcp;
use support::http::{Client, handled};

/// Answers with a word and what was found in the path.
fn says(
    word: &'static str,
) -> impl Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> + Clone + 'static {
    move |request, response| {
        let found = ["id", "rest"].map(|name| request.param(name).unwrap_or("-")).join(" ");
        response.text(200, &format!("{word} {found} {}", request.path_below()))
    }
}

fn routes() -> Router {
    Router::new()
        .get("/", says("root"))
        .get("/users/{id}", says("user"))
        .get("/users/me", says("me"))
        .delete("/users/{id}", says("delete"))
        .post("/users", says("create"))
        .put("/put", says("put"))
        .patch("/put", says("patch"))
        .get("/files/{*rest}", says("file"))
        .route("PURGE", "/cache", http::handler(says("purge")))
        .route("HEAD", "/own", http::handler(|_, response| response.status(204).empty()))
        .get("/own", says("own"))
        .route("OPTIONS", "/own", http::handler(says("options")))
        .mount("/static/", http::handler(says("static")))
        .mount("/u/{id}/files", http::handler(says("mounted")))
        .mount("/api", Router::new().get("/", says("api")).get("/v1/{id}", says("v1")).mount("/in", deep()))
}

fn deep() -> Router {
    Router::new().get("/deep", says("deep")).mount("/", http::handler(says("below")))
}

/// A client of the router, and its server.
fn routed(router: fn() -> Router) -> (Client, campanile::ServerHandle) {
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(Config::default());
    let server = http::serve(server, http::Config::default(), router).expect("a server");
    (Client::connect(tcp(&server)), server)
}

#[test]
fn the_most_specific_path_answers() {
    let (mut client, _server) = routed(routes);
    for (target, expected) in [
        ("/", "root - - /"),
        ("/?x=/users/me", "root - - /"),
        ("/users/7", "user 7 - /users/7"),
        ("/users/me", "me - - /users/me"),
        ("/users/%6de", "user %6de - /users/%6de"),
        ("/files/a/b", "file - a/b /files/a/b"),
        ("http://elsewhere/users/me", "me - - /users/me"),
        ("/static", "static - - "),
        ("/static/", "static - - /"),
        ("/static/a/b", "static - - /a/b"),
        ("/static/a/", "static - - /a/"),
        ("/u/12345/files", "mounted 12345 - "),
        ("/u/1/files/", "mounted 1 - /"),
        ("/u/12345/files/x/y", "mounted 12345 - /x/y"),
        ("/api", "api - - "),
        ("/api/", "api - - /"),
        ("/api/v1/9", "v1 9 - /v1/9"),
        ("/api/in/deep", "deep - - /deep"),
        ("/api/in/other/x", "below - - /other/x"),
        ("/api/in", "below - - "),
    ] {
        let reply = client.get(target);
        assert_eq!((reply.status, reply.text()), (200, expected), "{target}");
    }
    for target in
        ["/user", "/users/", "/users/7/", "/users/7/x", "/files/", "/api/v1", "/staticx", "/u//files"]
    {
        assert_eq!(client.get(target).status, 404, "{target}");
    }
}

#[test]
fn methods_are_answered_derived_or_refused() {
    let (mut client, _server) = routed(routes);
    let mut ask = |method: &str, target: &str| {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let reply = client.try_reply(method == "HEAD").expect("an answer");
        (reply.status, reply.field("Allow").map(String::from), reply.text().to_owned())
    };
    let text = |status, text: &str| (status, None, text.to_owned());
    let allow = |status, allow: &str, text: &str| (status, Some(allow.to_owned()), text.to_owned());
    assert_eq!(ask("DELETE", "/users/7"), text(200, "delete 7 - /users/7"));
    assert_eq!(ask("POST", "/users"), text(200, "create - - /users"));
    assert_eq!(ask("PATCH", "/put"), text(200, "patch - - /put"));
    assert_eq!(ask("PURGE", "/cache"), text(200, "purge - - /cache"));
    assert_eq!(ask("HEAD", "/users/7"), text(200, ""));
    assert_eq!(ask("HEAD", "/own"), text(204, ""));
    assert_eq!(ask("OPTIONS", "/own"), text(200, "options - - /own"));
    assert_eq!(ask("OPTIONS", "/users/7"), allow(204, "GET, DELETE, HEAD, OPTIONS", ""));
    assert_eq!(ask("POST", "/users/7"), allow(405, "GET, DELETE, HEAD, OPTIONS", "method not allowed\n"));
    assert_eq!(ask("GET", "/cache"), allow(405, "PURGE, OPTIONS", "method not allowed\n"));
    assert_eq!(ask("get", "/"), allow(405, "GET, HEAD, OPTIONS", "method not allowed\n"));
    let (status, allow, _) = ask("OPTIONS", "*");
    assert_eq!((status, allow.is_some()), (204, true));
    assert_eq!(ask("CONNECT", "a:443").0, 405);
}

#[test]
fn mistakes_of_the_program_are_found_when_it_starts() {
    let says = |word: &'static str| http::handler(says(word));
    let panics = |make: &dyn Fn() -> Router| {
        let make = std::panic::AssertUnwindSafe(make);
        let panic = std::panic::catch_unwind(|| drop(make())).expect_err("it is refused");
        *panic.downcast::<String>().expect("a text")
    };
    let twice = panics(&|| Router::new().get("/a", says("a")).get("/a", says("b")));
    assert_eq!(twice, "GET /a has a handler already");
    let conflict = panics(&|| Router::new().get("/{a}", says("a")).get("/{b}", says("b")));
    assert!(conflict.starts_with("/{b}: ") && conflict.contains("/{a}"), "{conflict}");
    let mounted = panics(&|| Router::new().mount("/a", says("a")).get("/a", says("b")));
    assert_eq!(mounted, "GET /a: something is mounted there");
    let under = panics(&|| Router::new().get("/a/", says("a")).mount("/a", says("b")));
    assert!(under.starts_with("/a/: "), "{under}");
    let broken = panics(&|| Router::new().get("/{a", says("a")));
    assert!(broken.starts_with("/{a: "), "{broken}");
}

#[test]
fn methods_and_versions_convert_both_ways() {
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PURGE"];
    for name in names {
        let converted = convert::method(Method::of(name)).expect("a token");
        assert_eq!((converted.as_str(), convert::method_of(&converted)), (name, Method::of(name)));
    }
    assert!(convert::method(Method::of("not one")).is_err());
    for version in [Version::Http10, Version::Http11] {
        assert_eq!(convert::version_of(convert::version(version)), Some(version));
    }
    assert_eq!(convert::version_of(::http::Version::HTTP_2), None);
}

#[test]
fn requests_and_responses_of_the_http_crate_pass_through() {
    let app = |request: &Request<'_>, response: Response<'_, '_>| {
        let request = ::http::Request::try_from(request)?;
        let fields = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}={} ", String::from_utf8_lossy(value.as_bytes())));
        let text = format!("{} {} {:?} ", request.method(), request.uri(), request.version());
        let text: String = std::iter::once(text).chain(fields).collect();
        let answer = ::http::Response::builder()
            .header("X-One", "1")
            .header("x-one", "2")
            .header("Content-Length", "999")
            .header("Transfer-Encoding", "chunked")
            .header("Date", "never");
        match request.uri().path() {
            "/204" => response.send(answer.status(204).body(Bytes::new())?),
            "/bad" => response.send(answer.status(204).body("not allowed")?),
            "/101" => response.send(answer.status(101).body("")?),
            "/close" => response.send(answer.header("Connection", "x, Close").body(text)?),
            "/long" => response.send(answer.status(201).body(vec![7; 100_000])?),
            _ => response.send(answer.status(418).body(text)?),
        }
    };
    handled(app, |client, _| {
        client.send(b"PURGE /a?b=c HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: \xff\r\nx: 2\r\n\r\n");
        let reply = client.reply();
        let expected = "PURGE /a?b=c HTTP/1.1 host=a x=1 x=2 y=\u{fffd} ";
        assert_eq!((reply.status, reply.text()), (418, expected));
        assert!(reply.head.contains("\r\nx-one: 1\r\nx-one: 2\r\n"), "{}", reply.head);
        assert_eq!(reply.head.matches("\r\nContent-Length: ").count(), 1);
        assert_eq!((reply.head.to_lowercase().matches("\r\ndate: ").count(), reply.closes()), (1, false));
        assert_eq!(client.get("/long").body, vec![7; 100_000]);
        assert_eq!(client.get("/204").status, 204);
        assert_eq!((client.get("/bad").status, client.get("/101").status), (500, 500));
        client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.reply().text().starts_with("OPTIONS * "));
        client.send("GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.reply().text().starts_with("GET http://b/c "));
        assert!(client.get("/close").closes());
        client.ends();
    });
}
