//! monoio on its driver for io_uring: a runtime of its own, with buffers that go along.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::TcpStream;
use monoio::{IoUringDriver, RuntimeBuilder};

use super::{ENTRIES, READ, READ_TRANSFER, is_over};
use crate::work::{Fingerprint, PAYLOAD, PeerHttp, Work};

pub(super) fn serve(listener: TcpListener, work: Work, stop: &AtomicBool) {
    let runtime = RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).build();
    runtime.expect("a runtime").block_on(async {
        let listener = monoio::net::TcpListener::from_std(listener).expect("a listener");
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            if is_over(stop) {
                return;
            }
            // How it ends is for the client to judge.
            monoio::spawn(connection(stream, work));
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
    let mut buffer = Vec::with_capacity(READ);
    loop {
        let (n, filled) = stream.read(buffer).await;
        if n? == 0 {
            return Ok(());
        }
        let (written, filled) = stream.write_all(filled).await;
        written?;
        buffer = filled;
        buffer.clear();
    }
}

async fn http(mut stream: TcpStream) -> io::Result<()> {
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

async fn sink(mut stream: TcpStream) -> io::Result<()> {
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

async fn source(mut stream: TcpStream) -> io::Result<()> {
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
