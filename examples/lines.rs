//! Sends back each line in upper case.
//!
//! ```text
//! cargo run --release --example lines -- --listen 127.0.0.1:7001
//! printf 'hello\nworld\n' | nc -N 127.0.0.1 7001
//! ```

use campanile::{Address, Lines, ServeError, Server, framed};
use clap::Parser;

/// The longest line, in bytes.
const MAX_LINE: usize = 1024;

#[derive(Parser)]
#[command(about = "Sends back each line in upper case")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:7001")]
    listen: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
}

fn main() -> Result<(), ServeError> {
    let options = Options::parse();
    let server = Server::new().listen(options.listen).workers(options.workers).serve(|| {
        framed(Lines::new(MAX_LINE), |line, reply| reply.write_line(line.to_ascii_uppercase())).on_error(
            |error, reply| {
                // The connection ends either way; without room it ends without a word.
                let _ = reply.write_line(format!("ERROR {error}"));
            },
        )
    })?;
    eprintln!("{}", server.summary());
    server.wait()
}
