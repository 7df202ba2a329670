//! A server that lies, by which the load shows that it looks: one that believed everything would measure nothing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use crate::load::{Kept, Load};
use crate::work::Exchange;

/// # Panics
/// If the load believes an answer whose last byte is wrong, one that is cut off, or one that has no date.
pub(crate) fn is_found_out() {
    let truth = Exchange::http(2).answer;
    let mut slip = truth.clone();
    *slip.last_mut().expect("an answer") ^= 1;
    let cut = truth[..truth.len() - 1].to_vec();
    for lie in [slip, cut, truth] {
        let told = lie.escape_ascii().to_string();
        let believed = tell(lie).expect("a server that lies");
        assert!(!believed, "the load believes {told}");
    }
}

/// Whether the load believes `lie` for an answer to two requests.
fn tell(lie: Vec<u8>) -> io::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut load = Kept::connect(listener.local_addr()?, 1, Exchange::http(2))?;
    let liar = thread::spawn(move || -> io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut vec![0; Exchange::http(2).request.len()])?;
        stream.write_all(&lie)
    });
    let believed = load.run(1).is_ok();
    liar.join().expect("a liar that does not panic")?;
    Ok(believed)
}
