//! Sends back whatever it receives.
//!
//! ```text
//! cargo run --release --example echo -- --listen 127.0.0.1:7000
//! (echo hello; sleep 1) | nc 127.0.0.1 7000
//! ```

use campanile::{Address, Flow, Input, Output, ServeError, Server};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Sends back whatever it receives")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:7000")]
    listen: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
}

fn echo(input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
    let n = input.len().min(output.room());
    output.write(input.consume(n)).expect("no longer than the room");
    Flow::More(1)
}

fn main() -> Result<(), ServeError> {
    let options = Options::parse();
    let server = Server::new().listen(options.listen).workers(options.workers);
    let server = server.serve(|| echo)?;
    eprintln!("{}", server.summary());
    server.wait()
}
