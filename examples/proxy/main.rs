//! A reverse proxy: several servers behind one address.
//!
//! ```text
//! cargo run --release --example proxy -- --to 127.0.0.1:8081 --to 127.0.0.1:8082
//! curl http://127.0.0.1:8080/
//! ```
//!
//! `fields.rs` says which fields are passed on, `upstreams.rs` who is asked, and `forward.rs` does it.

mod fields;
mod forward;
mod upstreams;

use std::error::Error;
use std::time::Duration;

use campanile::{Address, Config, Dial, PoolConfig, Server, http, spawn};
use clap::Parser;

use forward::Proxy;
use upstreams::{Check, Health};

#[derive(Parser, Clone)]
#[command(about = "Passes requests on to other servers")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: Address,
    /// Where to pass requests on to: NAME:PORT, IP:PORT or unix:PATH; several take turns.
    #[arg(long, required = true)]
    to: Vec<String>,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
    /// What is asked for to see whether a server is well.
    #[arg(long, default_value = "/")]
    check: String,
    /// How often, in milliseconds; an answer may take as long.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    check_every: u64,
    /// Connections of a worker to each server.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Seconds that an answer may let wait for its head.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    for to in &options.to {
        Dial::to(to)?;
    }
    let health = Health::new(options.to.len());
    let check = Check { path: options.check.clone(), every: Duration::from_millis(options.check_every) };
    let checked = (options.to.clone(), health.clone());
    // All workers share what one of them finds out.
    let server = Server::new()
        .listen(options.listen.clone())
        .workers(options.workers)
        .config(Config { drain_time: Duration::from_secs(30), ..Config::default() })
        .on_start(async move |worker| {
            let (names, health) = checked.clone();
            for (index, name) in names.into_iter().enumerate().filter(|_| worker.index() == 0) {
                drop(spawn(check.clone().run(name, health.clone(), index)));
            }
        });
    let pool = PoolConfig { total: options.connections as usize, ..PoolConfig::default() };
    let patience = Duration::from_secs(options.patience);
    let make = move || Proxy::new(&options.to, &health, &pool, patience).handler();
    let server = http::serve(server, http::Config::default(), make)?;
    eprintln!("{}", server.summary());
    Ok(server.wait()?)
}
