//! Sends the files that lines name, read by tokio-uring, each after a pause on tokio's timer.
//!
//! ```text
//! cargo run --release -p campanile-tokio-uring --example files -- --listen 127.0.0.1:7000
//! (echo Cargo.toml; sleep 1) | nc 127.0.0.1 7000
//! ```

use std::time::Duration;

use campanile::{Address, ServeError, Server, Stream};
use clap::Parser;
use tokio_uring::fs::File;

#[derive(Parser)]
#[command(about = "Sends the files that lines name")]
struct Options {
    /// Where to listen: IP:PORT or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:7000")]
    listen: Address,
    /// Milliseconds before each file.
    #[arg(long, default_value_t = 10)]
    pause: u64,
}

async fn send_file(name: &str, stream: &mut Stream) -> std::io::Result<()> {
    let file = File::open(name).await?;
    let (mut piece, mut at) = (vec![0; 64 * 1024], 0);
    loop {
        let (read, buffer) = file.read_at(piece, at).await;
        let n = read?;
        if n == 0 {
            return file.close().await;
        }
        stream.write(&buffer[..n]).await?;
        (piece, at) = (buffer, at + n as u64);
    }
}

fn main() -> Result<(), ServeError> {
    let options = Options::parse();
    campanile_tokio_uring::serve(|| {
        let serve = async move |mut stream: Stream| -> std::io::Result<()> {
            while let Some(line) = stream.read_line(4096).await? {
                tokio::time::sleep(Duration::from_millis(options.pause)).await;
                if let Err(error) = send_file(&String::from_utf8_lossy(&line), &mut stream).await {
                    stream.write_line(format!("ERROR {error}")).await?;
                }
            }
            Ok(())
        };
        let server = Server::new().listen(options.listen).host(serve)?;
        eprintln!("{}", server.summary());
        Ok(server)
    })
}
