//! Answers every GET with `Hello, World!`.
//!
//! ```text
//! cargo run --release --example http-hello -- --listen 127.0.0.1:8080
//! curl -v http://127.0.0.1:8080/
//! ```

use campanile::http::{self, Method};
use campanile::{Address, ServeError, Server};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Answers every GET with `Hello, World!`")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
}

fn main() -> Result<(), ServeError> {
    let options = Options::parse();
    let server = Server::new().listen(options.listen).workers(options.workers).serve(|| {
        http::service(|request, response| match request.method() {
            Method::Get | Method::Head => response.text(200, "Hello, World!"),
            _ => response.not_allowed("GET, HEAD"),
        })
    })?;
    eprintln!("{}", server.summary());
    server.wait()
}
