//! Ends: clients that say they are done before they have read, and a port that is taken.

use std::io::{BufReader, Write};
use std::net::Shutdown;

use crate::site::{Folder, program};
use crate::support::common::{client, keyed};
use crate::{answer, start};

#[test]
fn who_half_closes_after_the_request_gets_the_whole_answer() {
    let folder = Folder::new();
    folder.file("large.bin", 4 << 20);
    let site = start(&["--root", &folder.path("")]);
    let count = 20;
    let whole = (0..count).filter(|_| {
        let mut stream = client(site.address());
        stream.write_all(b"GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        stream.shutdown(Shutdown::Write).expect("a socket");
        let mut reader = BufReader::new(&stream);
        let told = answer(&mut reader);
        let ended = answer(&mut reader).is_none();
        told.is_some_and(|(status, body)| status == 200 && keyed::differs(4 << 20, 0, &body).is_none())
            && ended
    });
    let whole = whole.count();
    println!(
        "{count} clients that half-close after their request: {whole} got all of 4 MiB and an orderly end"
    );
    assert_eq!(whole, count);
}

#[test]
fn a_second_start_on_a_port_is_refused_and_says_who_has_it() {
    let site = start(&[]);
    let second = program(&["--listen", &site.addresses[0]]).output().expect("the example is built");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    println!("started twice: {}", said.trim());
    assert!(!second.status.success() && said.contains(&site.pid().to_string()), "{said}");
}
