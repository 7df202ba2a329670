//! Rooms to talk in, by lines.
//!
//! ```text
//! cargo run --release --example chat -- --listen 127.0.0.1:7004
//! nc 127.0.0.1 7004
//! ```
//!
//! Each connection is an async function (`member`), which reads lines and writes those of its own queue, both at once.
//! A worker knows the members that it serves (`hall`); what is said in a room goes to the members of this worker at
//! once, and to each other worker as a task that tells those there. Nothing is shared, and nothing is locked.
//!
//! # Who reads slowly
//!
//! holds nobody up: what is said goes into a queue per member, of `--queue` lines. When it is full the line is left out
//! for this one member, who is told how many were with the first that fits again. Who takes nothing at all for a minute
//! is disconnected (`Config::send_stall`). So what waits for a member are at most `--queue` lines of up to 2 KiB (most
//! are a quarter of that, and what is said is shared by all members of the room), 16 KiB in either direction
//! (`Config::stream_buffer`), and the send buffers that a connection may have.
//!
//! Who says something waits until every worker has passed it on before the next line is read. So what is between the
//! workers is one line per member, too, and what one member says arrives in its order.

mod hall;
mod member;

use std::time::Duration;
use std::{io, thread};

use campanile::{Address, Config, Server, Stopper, Stream};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Who neither hears nor says anything for so long is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Parser)]
#[command(about = "Rooms to talk in, by lines")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:7004")]
    listen: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
    /// Lines that wait for a member who reads slowly, before some are left out.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(2..))]
    queue: u16,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let signals = Signals::new([SIGINT, SIGTERM])?;
    let config = Config { idle_timeout: Some(IDLE_TIMEOUT), stream_buffer: 16 * 1024, ..Config::default() };
    let server = Server::new().listen(options.listen).workers(options.workers).config(config);
    let (monitor, queue) = (server.monitor(), options.queue.into());
    let server = server.serve(async move |stream: Stream| member::serve(stream, &monitor, queue).await)?;
    say_goodbye_on(signals, server.stopper())?;
    eprintln!("{}", server.summary());
    Ok(server.wait()?)
}

/// The first Ctrl-C or SIGTERM says goodbye to everybody, the second ends it at once.
fn say_goodbye_on(mut signals: Signals, stopper: Stopper) -> io::Result<()> {
    let heed = move || {
        for _ in signals.forever() {
            if stopper.is_draining() {
                stopper.stop();
            }
            stopper.drain();
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(heed).map(drop)
}
