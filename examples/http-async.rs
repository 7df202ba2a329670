//! Handlers that wait, in one router with one that answers at once: for time, for a body, for who reads.
//!
//! ```text
//! cargo run --release --example http-async -- --listen 127.0.0.1:8080
//! curl http://127.0.0.1:8080/after/250
//! curl http://127.0.0.1:8080/ticks
//! curl --data-binary @Cargo.lock http://127.0.0.1:8080/echo
//! ```

use std::time::Duration;

use campanile::http::{self, BodyWriter, Error, OwnedRequest, Router};
use campanile::{Address, Server, sleep};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Answers by handlers that wait")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
}

async fn after(request: OwnedRequest) -> Result<String, Error> {
    let millis = request.param("millis").and_then(|millis| millis.parse().ok());
    let millis = millis.ok_or(Error::new(400, "say how many milliseconds"))?;
    sleep(Duration::from_millis(millis)).await;
    Ok(format!("after {millis} ms\n"))
}

async fn tick(mut writer: BodyWriter) -> Result<(), Error> {
    for n in 1..=5 {
        writer.write(format!("{n}\n")).await?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn main() -> Result<(), campanile::ServeError> {
    let options = Options::parse();
    let server = Server::new().listen(options.listen).workers(options.workers);
    let server = http::serve(server, http::Config::default(), || {
        Router::new()
            .get("/", |_, response| response.text(200, "Hello, World!\n"))
            .get("/after/{millis}", http::wait(after))
            .get("/ticks", http::wait(async |_| http::stream(tick)))
            .post("/echo", http::wait(async |request| request.into_body()))
    })?;
    eprintln!("{}", server.summary());
    server.wait()
}
