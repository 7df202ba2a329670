//! tokio-uring: operations of a ring below tokio's tasks, with buffers that go along.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;

use super::{ENTRIES, READ, READ_TRANSFER, is_over};
use crate::work::{Fingerprint, PAYLOAD, PeerHttp, Work};

pub(super) fn serve(listener: TcpListener, work: Work, stop: &AtomicBool) {
    tokio_uring::builder().entries(ENTRIES).start(async {
        let listener = tokio_uring::net::TcpListener::from_std(listener);
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            if is_over(stop) {
                return;
            }
            // How it ends is for the client to judge.
            tokio_uring::spawn(connection(stream, work));
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

async fn echo(stream: TcpStream) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(READ);
    loop {
        let (n, filled) = stream.read(buffer).await;
        let n = n?;
        if n == 0 {
            return Ok(());
        }
        let (written, part) = stream.write_all(filled.slice(..n)).await;
        written?;
        buffer = part.into_inner();
        buffer.clear();
    }
}

async fn http(stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut answers) = (Vec::with_capacity(READ), Vec::new());
    let mut http = PeerHttp::default();
    loop {
        let (n, filled) = stream.read(buffer).await;
        if n? == 0 {
            return Ok(());
        }
        let over = http.answer(&filled, &mut answers);
        let (written, answered) = stream.write_all(answers).await;
        written?;
        if over {
            return Ok(());
        }
        (buffer, answers) = (filled, answered);
        buffer.clear();
        answers.clear();
    }
}

async fn sink(stream: TcpStream) -> io::Result<()> {
    let (mut buffer, mut received) = (Vec::with_capacity(READ_TRANSFER), Fingerprint::default());
    loop {
        let (n, filled) = stream.read(buffer).await;
        if n? == 0 {
            return Ok(());
        }
        if let Some(print) = received.take(&filled) {
            stream.write_all(print.to_vec()).await.0?;
        }
        buffer = filled;
        buffer.clear();
    }
}

async fn source(stream: TcpStream) -> io::Result<()> {
    let mut asked = Vec::with_capacity(1);
    loop {
        let (n, filled) = stream.read(asked).await;
        if n? == 0 {
            return Ok(());
        }
        stream.write_all(&PAYLOAD[..]).await.0?;
        asked = filled;
        asked.clear();
    }
}
