//! Passes connections on to another address, in both directions.
//!
//! ```text
//! cargo run --release --example relay -- --listen 127.0.0.1:7002 --to 127.0.0.1:8080
//! curl -v http://127.0.0.1:7002/
//! ```

use campanile::channel::{Passed, Receiver, Sender};
use campanile::{Address, Connect, Context, Event, Flow, ServeError, Server, Service, on_open};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Passes connections on to another address")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:7002")]
    listen: Address,
    /// Where to pass connections on to.
    #[arg(long)]
    to: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
}

/// One side of a relay: what its peer sends goes into one channel, and what comes out of the other goes to its peer.
struct Side(Sender, Receiver);

impl Service for Side {
    fn handle(&mut self, _: Event, cx: &mut Context<'_>) -> Flow {
        match (self.0.send_input(cx), self.1.write_output(cx)) {
            (Passed::Gone, _) | (_, Passed::Gone) => Flow::Abort,
            (Passed::Ended, Passed::Ended) => Flow::Finish,
            (Passed::All, Passed::Part) => Flow::MoreOrRoom(1),
            (Passed::All, _) => Flow::More(1),
            (_, Passed::Part) => Flow::Room,
            _ => Flow::Wait,
        }
    }
}

fn main() -> Result<(), ServeError> {
    let Options { listen, to, workers } = Options::parse();
    let server = Server::new().listen(listen).workers(workers).serve(move || {
        let to = to.clone();
        on_open(move |cx| {
            let ((up, from_client), (down, from_server)) = (cx.channel(1 << 18), cx.channel(1 << 18));
            cx.connect(Connect::to(to), Side(down, from_client));
            Side(up, from_server)
        })
    })?;
    eprintln!("{}", server.summary());
    server.wait()
}
