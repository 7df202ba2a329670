//! The routes: what is answered where.

use campanile::Monitor;
use campanile::http::{
    self, Answered, Error, FieldLine, Files, Handler, Next, Request, Response, Router, handler,
};

use crate::waiting;

const BYTES: FieldLine = FieldLine::from_static("Content-Type: application/octet-stream\r\n");
const CSS: FieldLine = FieldLine::from_static("Content-Type: text/css; charset=utf-8\r\n");
const HTML: FieldLine = FieldLine::from_static("Content-Type: text/html; charset=utf-8\r\n");
const JSON: FieldLine = FieldLine::from_static("Content-Type: application/json\r\n");
const PLAIN: FieldLine = FieldLine::from_static("Content-Type: text/plain\r\n");
const TEXT: FieldLine = FieldLine::from_static("Content-Type: text/plain; charset=utf-8\r\n");

/// The routes, for one worker.
pub(crate) fn router(files: Option<Files>, body_limit: usize, monitor: Monitor, is_async: bool) -> Router {
    let router = Router::new()
        .get("/", |_, response| response.text(200, include_str!("site/endpoints.txt")))
        .get("/healthz", http::health)
        .get("/readyz", http::readiness)
        .route("GET", "/metrics", http::Metrics::new(monitor));
    let router = if is_async { waiting::routes(router, body_limit) } else { routes(router, body_limit) };
    match files {
        Some(files) => router.mount("/static", files),
        None => router
            .get("/static", asset(HTML, include_str!("site/index.html")))
            .get("/static/", asset(HTML, include_str!("site/index.html")))
            .get("/static/index.html", asset(HTML, include_str!("site/index.html")))
            .get("/static/style.css", asset(CSS, include_str!("site/style.css"))),
    }
}

/// Adds those that answer at once, or go on as an exchange.
fn routes(router: Router, body_limit: usize) -> Router {
    router
        .get("/204", |_, response| response.status(204).empty())
        .get("/plaintext", |_, response| response.status(200).line(PLAIN).body("Hello, World!"))
        .get("/json", |_, response| response.status(200).line(JSON).body(r#"{"message":"Hello, World!"}"#))
        .get("/headers", headers)
        .post("/headers", headers)
        .get("/chunked", chunked)
        .post("/stream", stream)
        .post("/length", length)
        .post("/echo", move |_, response| {
            response.collect(body_limit, |body, response| response.status(200).line(BYTES).bytes(body))
        })
}

/// A file of the built-in site.
fn asset(
    kind: FieldLine,
    text: &'static str,
) -> impl Handler + Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> {
    handler(move |_, response| response.status(200).line(kind).body(text))
}

/// The fields of the request, one per line.
fn headers(request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    let mut lines = Vec::new();
    for field in request.fields() {
        lines.extend_from_slice(&[field.name.as_bytes(), b": ", field.value, b"\n"].concat());
    }
    response.status(200).line(TEXT).body(lines)
}

/// Three pieces, each when there is room for it.
fn chunked(_: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    let mut n = 0;
    response.status(200).line(TEXT).stream(move |exchange| {
        exchange.write(format!("chunk-{n};"))?;
        n += 1;
        Ok(if n < 3 { Next::Room } else { Next::Done })
    })
}

/// How many bytes the body has, of which none is kept.
fn length(_: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    let mut length = 0;
    Ok(response.run(move |exchange| {
        length += exchange.consume_all().len() as u64;
        if !exchange.is_complete() {
            return Ok(Next::Body);
        }
        exchange.answer(|response| response.status(200).line(TEXT).body(format!("{length}\n")))
    }))
}

/// The body, while it comes: nothing more is read before there is room to write it.
fn stream(_: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    Ok(response.run(|exchange| {
        if exchange.body().is_empty() && !exchange.is_complete() {
            return Ok(Next::Body);
        }
        if !exchange.is_begun() {
            exchange.begin(|response| response.status(200).line(BYTES).begin_stream())?;
        }
        exchange.pass_on()?;
        Ok(if exchange.is_complete() { Next::Done } else { Next::BodyOrRoom })
    }))
}
