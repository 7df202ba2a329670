//! The routes by handlers that may wait: the same answers, for `--async`.

use campanile::http::{self, Body, BodyWriter, Error, OwnedRequest, Router};

const BYTES: [(&str, &str); 1] = [("Content-Type", "application/octet-stream")];
const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];
const PLAIN: [(&str, &str); 1] = [("Content-Type", "text/plain")];
const TEXT: [(&str, &str); 1] = [("Content-Type", "text/plain; charset=utf-8")];

/// Adds them.
pub(crate) fn routes(router: Router, body_limit: usize) -> Router {
    let echo = http::wait(async move |mut request: OwnedRequest| {
        let body = request.body().collect(body_limit).await?;
        Ok::<_, Error>((200, BYTES, body))
    });
    router
        .get("/204", http::wait(async |_| 204))
        .get("/plaintext", http::wait(async |_| (200, PLAIN, "Hello, World!")))
        .get("/json", http::wait(async |_| (200, JSON, r#"{"message":"Hello, World!"}"#)))
        .get("/headers", http::wait(headers))
        .post("/headers", http::wait(headers))
        .get("/chunked", http::wait(async |_| (200, TEXT, http::stream(chunked))))
        .post("/stream", http::wait(stream))
        .post("/length", http::wait(length))
        .post("/echo", echo)
}

/// The fields of the request, one per line.
async fn headers(request: OwnedRequest) -> (u16, [(&'static str, &'static str); 1], Vec<u8>) {
    let lines =
        request.fields().flat_map(|field| [field.name.as_bytes(), b": ", field.value, b"\n"].concat());
    (200, TEXT, lines.collect())
}

/// Three pieces, each when there is room for it.
async fn chunked(mut writer: BodyWriter) -> Result<(), Error> {
    for n in 0..3 {
        writer.write(format!("chunk-{n};")).await?;
        writer.flush().await?;
    }
    Ok(())
}

/// How many bytes the body has, of which none is kept.
async fn length(
    mut request: OwnedRequest,
) -> Result<(u16, [(&'static str, &'static str); 1], String), Error> {
    let mut length = 0;
    while let Some(piece) = request.body().next().await {
        length += piece?.len();
    }
    Ok((200, TEXT, format!("{length}\n")))
}

/// The body, while it comes: nothing more is read before there is room to write it.
async fn stream(request: OwnedRequest) -> (u16, [(&'static str, &'static str); 1], http::Pieces<Body>) {
    (200, BYTES, http::pieces(request.into_body()))
}
