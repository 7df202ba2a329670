//! Handlers that wait for files: what is posted is written piece by piece, put in place when all of it came, and read
//! again.

mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;

use campanile::fs::{self, File};
use campanile::http::{self, Error, OwnedRequest, Router};

use support::common::keyed;
use support::http::{everywhere, post, post_chunked};
use support::web::Site;

/// Nobody sees a part of it, and nothing is left of what does not come to its end.
async fn store(place: Rc<Path>, mut request: OwnedRequest) -> Result<(u16, String), Error> {
    let name = request.param("name").unwrap_or_default().to_owned();
    let (part, whole) = (place.join(format!("{name}.part")), place.join(name));
    let file = File::create(&part).await?;
    let mut at = 0;
    while let Some(piece) = request.body().next().await {
        let piece = piece?;
        let len = piece.len() as u64;
        file.write_at(at, piece).await?;
        at += len;
    }
    file.sync_data().await?;
    fs::rename(part, whole).await?;
    Ok((201, format!("{at} bytes")))
}

async fn show(place: Rc<Path>, request: OwnedRequest) -> Result<Vec<u8>, Error> {
    match fs::read(place.join(request.param("name").unwrap_or_default())).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::new(404, "not stored")),
        read => Ok(read?),
    }
}

fn stores(place: &Path) -> Router {
    let (to, from): (Rc<Path>, Rc<Path>) = (place.into(), place.into());
    Router::new()
        .post("/{name}", http::wait(move |request| store(Rc::clone(&to), request)))
        .get("/{name}", http::wait(move |request| show(Rc::clone(&from), request)))
}

#[test]
fn what_is_posted_is_stored_and_shown() {
    let site = Site::new();
    let place = site.folder().to_owned();
    everywhere(
        move || http::Http::new(stores(&place)),
        |client, _| {
            let mut body = vec![0; 200_000];
            keyed::fill(11, 0, &mut body);
            for (name, request) in
                [("whole", post("/whole", &body)), ("chunks", post_chunked("/chunks", &body, 3_000, ""))]
            {
                client.send(request);
                let reply = client.reply();
                assert_eq!((reply.status, reply.text()), (201, "200000 bytes"));
                assert!(client.get(&format!("/{name}")).body == body);
                assert!(!site.path(&format!("{name}.part")).exists());
            }
            client.send(post("/empty", b""));
            assert_eq!(client.reply().text(), "0 bytes");
            assert!(client.get("/empty").body.is_empty());
            assert_eq!(client.get("/none").status, 404);
        },
    );
}
