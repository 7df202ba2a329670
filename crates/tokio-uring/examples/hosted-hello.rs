//! Answers every GET with `Hello, World!`, by a worker inside of a tokio-uring runtime, or of tokio alone.
//!
//! ```text
//! cargo run --release -p campanile-tokio-uring --example hosted-hello -- --listen 127.0.0.1:8080
//! curl -v http://127.0.0.1:8080/
//! ```

use campanile::http::{self, Method};
use campanile::{Address, Hosted, ServeError, Server, host};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Answers every GET with `Hello, World!`, inside of a runtime of tokio's")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: Address,
    /// In a current-thread runtime of tokio's, without tokio-uring.
    #[arg(long)]
    tokio: bool,
}

fn hello(listen: Address) -> Result<Hosted, ServeError> {
    let hello = http::handler(|request, response| match request.method() {
        Method::Get | Method::Head => response.text(200, "Hello, World!"),
        _ => response.not_allowed("GET, HEAD"),
    });
    let server = http::host(Server::new().listen(listen), http::Config::default(), hello)?;
    eprintln!("{}", server.summary());
    Ok(server)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    if options.tokio {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return Ok(runtime.block_on(host::run(hello(options.listen)?))?);
    }
    Ok(campanile_tokio_uring::serve(|| hello(options.listen))?)
}
