//! A whole HTTP server.
//!
//! ```text
//! cargo run --release --example http-server
//! curl http://127.0.0.1:8080/
//! ```

mod logs;
mod options;
mod routes;
mod signals;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use campanile::Server;
use campanile::http::{self, Files};
use clap::Parser;

use options::Options;

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    // What is still to be written of the access log is written when this is dropped.
    let _access_log = logs::start(&options.log, options.access_log.as_deref())?;
    let (config, body_limit) = (options.http(), options.body_limit());
    let mut server =
        options.on_ring(Server::new()).workers(options.workers()).pin(options.pin).config(options.server());
    for address in options.listen {
        server = server.listen(address);
    }
    let files = options.root.map(Files::new).transpose()?;
    let server = http::serve(server, config, move || routes::router(files.clone(), body_limit))?;
    signals::stop_by(server.stopper())?;
    tracing::debug!("what this kernel can do:\n{}", server.capabilities());
    let mut out = std::io::stdout().lock();
    for address in server.addresses() {
        // Nobody has to listen.
        let _ = writeln!(out, "listening on {address}");
    }
    let _ = out.flush();
    drop(out);
    Ok(server.wait()?)
}
