//! Tokio, on one thread: epoll, and a task per connection.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{READ, READ_TRANSFER, is_over};
use crate::work::{Fingerprint, PAYLOAD, PeerHttp, Work};

pub(super) fn serve(listener: TcpListener, work: Work, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a listener that does not block");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            if is_over(stop) {
                return;
            }
            // How it ends is for the client to judge.
            tokio::spawn(connection(stream, work));
        }
    });
}

async fn connection(stream: TcpStream, work: Work) -> io::Result<()> {
    match work {
        Work::Echo => echo(stream).await,
        Work::Http => http(stream).await,
        Work::Sink => sink(stream).await,
        Work::Source => source(stream).await,
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut answers, mut http) = (vec![0; READ], Vec::new(), PeerHttp::default());
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        answers.clear();
        let over = http.answer(&buffer[..n], &mut answers);
        stream.write_all(&answers).await?;
        if over {
            return Ok(());
        }
    }
}

async fn sink(mut stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut received) = (vec![0; READ_TRANSFER], Fingerprint::default());
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        if let Some(print) = received.take(&buffer[..n]) {
            stream.write_all(&print).await?;
        }
    }
}

async fn source(mut stream: TcpStream) -> io::Result<()> {
    let mut asked = [0];
    while stream.read(&mut asked).await? > 0 {
        stream.write_all(&PAYLOAD).await?;
    }
    Ok(())
}
