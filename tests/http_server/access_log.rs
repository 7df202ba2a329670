//! The access log: a line per request, written by nobody who answers requests.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::site::{Folder, Site, program};
use crate::support::common::{client, until};
use crate::support::{prints, tool};

/// Sends `requests` on a connection that the last of them closes, and reads to its end.
fn talk(site: &Site, requests: &str) -> String {
    let mut stream = client(site.address());
    stream.write_all(requests.as_bytes()).expect("it reads");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("an orderly end");
    answers
}

#[test]
fn each_request_has_its_line() {
    let folder = Folder::new();
    let path = folder.path("log");
    // What was there stays.
    fs::write(&path, "before\n").expect("there is room");
    let site = Site::start(&["--access-log", &path]);
    talk(
        &site,
        "GET /plaintext?a=b HTTP/1.1\r\nHost: a\r\n\r\n\
         HEAD /json HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
         GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n\
         PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /nowhere HTTP/1.0\r\n\r\n",
    );
    talk(&site, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n");
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "x".repeat(3000));
    talk(&site, &long);
    let quiet = site.said();
    // It is all written when the server has ended.
    site.stop();
    let text = fs::read_to_string(&path).expect("a file");
    let lines: Vec<&str> = text.lines().collect();
    let cut = format!("\"GET /{}... HTTP/1.1\" 404", "x".repeat(1023));
    let expected = [
        "\"GET /plaintext?a=b HTTP/1.1\" 200",
        "\"HEAD /json HTTP/1.1\" 200",
        "\"POST /echo HTTP/1.1\" 200",
        "\"GET /chunked HTTP/1.1\" 200",
        "\"PUT /echo HTTP/1.1\" 405",
        "\"POST /echo HTTP/1.1\" 200",
        "\"GET /nowhere HTTP/1.0\" 404",
        "\"POST /echo HTTP/1.1\" 413",
        &cut,
    ];
    assert_eq!((lines[0], lines.len()), ("before", expected.len() + 1), "{text}");
    for (line, expected) in lines[1..].iter().zip(expected) {
        // 127.0.0.1:50312 - - [02/Jan/2026:15:04:05 +0000] "GET / HTTP/1.1" 200 - 85
        let (front, rest) = line.split_once(" - - [").expect("who asked");
        let (date, rest) = rest.split_once("] ").expect("when");
        assert!(front.starts_with("127.0.0.1:"), "{line}");
        let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert!(shape.starts_with("00/") && shape.ends_with("/0000:00:00:00 +0000"), "{line}");
        let (request, micros) = rest.split_once(" - ").expect("how long it took");
        assert_eq!(request, expected);
        assert!(micros.parse::<u64>().is_ok(), "{line}");
    }
    assert!(!quiet.contains("campanile::access"), "requests are in one log only: {quiet}");
}

#[test]
fn it_goes_to_standard_output_too() {
    let mut command = program(&["--listen", "127.0.0.1:0", "--access-log", "-", "--log", "off"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the example is built");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first.strip_prefix("listening on ").expect("the address comes first");
    let mut stream = client(address.parse().expect("an address"));
    stream.write_all(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
    let line = lines.next().expect("a line").expect("text");
    assert!(line.contains("\"GET /204 HTTP/1.1\" 204 - "), "{line}");
    child.kill().expect("it runs");
    child.wait().expect("a child");
}

#[test]
fn nobody_waits_for_a_slow_disk_and_what_is_lost_is_told() {
    let Some(mut mkfifo) = tool("mkfifo") else { return };
    let folder = Folder::new();
    let path = folder.path("log");
    prints(mkfifo.arg(&path));
    // Somebody who opens it, and does not read.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&path).expect("a pipe");
    let site = Site::start(&["--access-log", &path]);
    let mut stream = client(site.address());
    let mut answers = BufReader::new(stream.try_clone().expect("a descriptor is left"));
    let batch = "GET /204 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    // More than wait to be written, and than a pipe holds.
    for _ in 0..70 {
        stream.write_all(batch.as_bytes()).expect("it reads");
        let ends = answers.by_ref().lines().map(|line| line.expect("an answer")).filter(String::is_empty);
        assert_eq!(ends.take(1000).count(), 1000);
    }
    // The disk is back.
    let mut cat = Command::new("cat").arg(&path).stdout(Stdio::null()).spawn().expect("everybody has it");
    drop(reader);
    until("it is told", || site.said().contains("lines of the access log were dropped"));
    site.stop();
    cat.wait().expect("a child");
}

#[test]
fn a_full_disk_is_told_once() {
    let site = Site::start(&["--access-log", "/dev/full"]);
    for _ in 0..3 {
        let answer = talk(&site, "GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    }
    until("it is told", || site.said().contains("the access log cannot be written: No space left"));
    assert_eq!(site.said().matches("cannot be written").count(), 1, "{}", site.said());
}
