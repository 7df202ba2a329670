//! A key-value store that speaks the protocol of Redis, in so far as `redis-cli` and `redis-benchmark` need it.
//!
//! ```text
//! cargo run --release --example kv -- --listen 127.0.0.1:7003
//! redis-cli -p 7003 set greeting hello ex 60
//! redis-benchmark -p 7003 -t set,get -P 16 -q
//! ```
//!
//! There is one worker, and all data is its own: no lock, no atomic, no message between threads, and every command is
//! atomic because nothing runs beside it. That is what Redis does, and for the same reason: a lookup costs less than
//! handing it to the thread that owns the key would. To use more cores, run more of these and let clients shard.
//!
//! A command waits for nothing, so the handler is a closure behind `framed`, not a future: it borrows the arguments
//! from the receive buffer and writes into the send buffer. The requests that came in one piece are answered in one
//! send. Only what happens by itself, throwing away what has expired, is a task.
//!
//! # Memory
//!
//! `--max-memory` bounds keys and values, with what the tables cost for each counted in (`Store`); what would go beyond
//! is answered `-OOM`, and nothing is evicted. A connection holds no more than `--max-request` bytes that are not yet a
//! whole request. Of answers that it does not read it holds 64 KiB; longer ones up to 1 MiB (`Config::held_limit`) and
//! one more, which is a value, or 4 MiB of several. There are at most `--max-connections`.

mod commands;
mod glob;
mod resp;
mod store;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use campanile::{Address, Config, ServeError, Server, framed, interval, now, spawn};
use clap::Parser;

use resp::Requests;
use store::Store;

/// How often expired keys are thrown away that nobody asks for, and how many at once, so that nobody waits for long.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
const SWEEP_AT_MOST: usize = 10_000;

/// Clients keep connections open in pools; one that was silent for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Parser)]
#[command(about = "A key-value store that speaks the protocol of Redis")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:7003")]
    listen: Address,
    /// The most memory for keys and values.
    #[arg(long, default_value = "256MiB")]
    max_memory: bytesize::ByteSize,
    /// The longest request, and so the longest value.
    #[arg(long, default_value = "1MiB")]
    max_request: bytesize::ByteSize,
    /// The most connections.
    #[arg(long, default_value_t = 10_000)]
    max_connections: u32,
}

fn main() -> Result<(), ServeError> {
    let options = Options::parse();
    let [max_memory, max_request] =
        [options.max_memory, options.max_request].map(|size| size.as_u64() as usize);
    let config = Config {
        max_connections: options.max_connections,
        input_limit: max_request,
        idle_timeout: Some(IDLE_TIMEOUT),
        ..Config::default()
    };
    let open = move |_| {
        let store = Rc::new(RefCell::new(Store::new(max_memory)));
        drop(spawn(sweep(Rc::clone(&store))));
        store
    };
    let server = Server::new().listen(options.listen).workers(1).config(config);
    let server = server.serve_with(open, move |store, _| {
        let store = Rc::clone(store);
        framed(Requests::new(max_request), move |request, reply| {
            let mut store = store.borrow_mut();
            store.set_time(now());
            commands::run(request, &mut store, reply)
        })
        .on_error(|error, reply| {
            // The connection ends either way; without room it ends without a word.
            let _ = resp::error(reply, &format!("ERR Protocol error: {error}"));
        })
    })?;
    eprintln!("{}", server.summary());
    server.wait()
}

/// Throws away what has expired and nobody asks for.
async fn sweep(store: Rc<RefCell<Store>>) {
    let mut ticks = interval(SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let mut store = store.borrow_mut();
        store.set_time(now());
        store.sweep(SWEEP_AT_MOST);
    }
}
