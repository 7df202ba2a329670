//! A whole HTTP server.
//!
//! ```text
//! cargo run --release --example http-server
//! curl -v http://127.0.0.1:8080/
//! ```

mod options;
mod routes;

use campanile::Server;
use campanile::http::{self, Files};
use clap::Parser;

use options::Options;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let mut server = Server::new().workers(options.workers).pin(options.pin);
    for address in &options.listen {
        server = server.listen(address.clone());
    }
    let body_limit = options.body_limit;
    let files = options.root.as_ref().map(Files::new).transpose()?;
    let server = http::serve(server, options.http(), move || routes::router(body_limit, files.clone()))?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    eprintln!("{}", server.summary());
    Ok(server.wait()?)
}
