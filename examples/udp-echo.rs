//! Sends back whatever datagrams it receives, by a socket per worker.
//!
//! ```text
//! cargo run --release --example udp-echo -- --listen 127.0.0.1:7003
//! echo hello | nc -u -w 1 127.0.0.1 7003
//! ```

use std::error::Error;
use std::rc::Rc;

use campanile::{Address, Server, UdpOptions, UdpSocket, spawn};
use clap::Parser;

/// Datagrams of a socket that are answered at a time: what they send in a turn of their worker goes out together.
const AT_A_TIME: usize = 64;

#[derive(Parser)]
#[command(about = "Sends back whatever datagrams it receives")]
struct Options {
    /// Where to listen: IP:PORT.
    #[arg(long, default_value = "127.0.0.1:7003")]
    listen: Address,
    /// Worker threads; one per core by default.
    #[arg(long)]
    workers: Option<usize>,
}

async fn echo(socket: Rc<UdpSocket>) -> std::io::Result<()> {
    loop {
        let (bytes, from) = socket.recv_from().await?;
        if let Err(error) = socket.send_to(bytes, from).await {
            eprintln!("{from}: {error}");
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Options { mut listen, workers } = Options::parse();
    let server = Server::new().workers(workers).run()?;
    let options = UdpOptions { reuse_port: server.workers().len() > 1, ..UdpOptions::default() };
    for worker in server.workers() {
        let (at, options) = (listen, options.clone());
        let bound = worker.spawn(async move || {
            let socket = Rc::new(UdpSocket::bind_with(at, options).await?);
            (0..AT_A_TIME).for_each(|_| drop(spawn(echo(Rc::clone(&socket)))));
            std::io::Result::Ok(socket.local_addr())
        });
        // The first finds the port, if it was left to the kernel, and the others share it.
        listen = bound.wait()??.into();
    }
    eprintln!("listening on {listen}, {} workers on {}", server.workers().len(), server.ring());
    Ok(server.wait()?)
}
