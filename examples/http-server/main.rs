//! A whole HTTP server.
//!
//! ```text
//! cargo run --release --example http-server
//! curl http://127.0.0.1:8080/
//! ```

mod logs;
mod manager;
mod options;
mod routes;
mod signals;
mod waiting;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use bytesize::ByteSize;
use campanile::http::{self, Files};
use campanile::{Config, Inherited, Server};
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

/// The most memory that a worker takes, in words.
fn memory(server: &Config, http: &http::Config, has_files: bool) -> String {
    let in_units = |bytes: usize| ByteSize::b(bytes as u64).display().iec().to_string();
    let (own, bodies) = (server.memory_bound(), http.body_memory);
    let cached = if has_files { http::FILES_MEMORY } else { 0 };
    format!(
        "a worker takes at most {} of memory, if all its {} connections leave as much unread as they may: {} for \
         connections and buffers, {} for bodies, {} for small files; what handlers allocate and hand over is theirs",
        in_units(own.saturating_add(bodies).saturating_add(cached)),
        server.max_connections,
        in_units(own),
        in_units(bodies),
        in_units(cached),
    )
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let signals = signals::catch()?;
    let access_log = logs::start(&options.log, options.access_log.as_deref())?;
    let inherited = Inherited::from_env()?;
    let (config, body_limit) = (options.http(), options.body_limit());
    let memory = memory(&options.server(), &config, options.root.is_some());
    let mut server =
        options.on_ring(Server::new()).workers(options.workers()).pin(options.pin).config(options.server());
    for address in options.listen(&inherited) {
        server = server.listen(address);
    }
    server = server.inherit(inherited);
    let files = options.root.map(Files::new).transpose()?;
    let monitor = server.monitor();
    let is_async = options.is_async;
    let make = move || routes::router(files.clone(), body_limit, monitor.clone(), is_async);
    let mut server = http::serve(server, config, make)?;
    let reopener = access_log.as_ref().map(|log| log.reopener.clone());
    let attempt = signals::heed(signals, server.stopper(), reopener, options.successor)?;
    tracing::info!("{memory}");
    tracing::debug!("what this kernel can do:\n{}", server.capabilities());
    let mut out = std::io::stdout().lock();
    for address in server.addresses() {
        // Nobody has to listen.
        let _ = writeln!(out, "listening on {address}");
    }
    let _ = out.flush();
    drop(out);
    server.ready();
    manager::ready(server.stopper())?;
    let ended = server.wait();
    attempt.settle();
    Ok(ended?)
}
