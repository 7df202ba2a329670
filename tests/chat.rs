//! The chat as a process: rooms over lines, a thousand members over two workers, and some that do not read.

mod support;

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use socket2::{Domain, Socket, Type};
use support::Program;
use support::common::{LONG, client, reset, until};

/// Somebody at the other end of a connection.
struct Person(BufReader<TcpStream>);

impl Person {
    fn comes(to: SocketAddr) -> Person {
        let mut person = Person(BufReader::new(client(to)));
        person.hears("* /nick NAME, /join ROOM, /who, /quit; anything else is said in the room");
        person
    }

    /// One with that name, in that room.
    fn joins(to: SocketAddr, name: &str, room: &str) -> Person {
        let mut person = Person::comes(to);
        person.says(&format!("/nick {name}\n/join {room}"));
        person.waits_for(&format!("* you are in {room}"));
        person
    }

    fn says(&mut self, text: &str) {
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).expect("it reads");
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line, or an orderly end");
        line.pop().map(|_| line)
    }

    fn hears(&mut self, line: &str) {
        assert_eq!(self.line().as_deref(), Some(line));
    }

    /// Passes over what comes before that.
    fn waits_for(&mut self, line: &str) {
        while self.line().expect("it comes before the end") != line {}
    }
}

#[test]
fn people_talk() {
    let chat = Program::start("chat", &["--workers", "2"]);
    let mut anna = Person::comes(chat.address);
    anna.says("hello?");
    anna.hears("* join a room first: /join ROOM");
    anna.says("/nick anna\r");
    anna.waits_for("* guest1 is anna now");
    anna.says("/join tea");
    anna.hears("* you are in tea");
    let mut bert = Person::joins(chat.address, "bert", "tea");
    anna.hears("* bert has come");
    let mut elsewhere = Person::joins(chat.address, "carl", "coffee");
    anna.says("hello, \u{1b}[2J\tbert ü");
    bert.hears("<anna> hello, [2Jbert ü");
    anna.says("\n  \n  indented");
    bert.hears("<anna>   indented");
    bert.says("/nick berta\n/who");
    anna.hears("* bert is berta now");
    bert.hears("* bert is berta now");
    let everybody = bert.line().expect("an answer");
    assert!(["* in tea: anna, berta", "* in tea: berta, anna"].contains(&&everybody[..]), "{everybody}");
    bert.says("/nick b c\n/join\n/nick 123456789012345678901\n/shout");
    for _ in 0..3 {
        bert.hears("* a name is a word of up to 20 letters");
    }
    bert.waits_for("* /nick NAME, /join ROOM, /who, /quit; anything else is said in the room");
    bert.says("/join coffee\nhello");
    anna.hears("* berta has gone");
    for line in ["* berta has come", "<berta> hello"] {
        elsewhere.hears(line);
    }
    bert.says("/quit");
    bert.waits_for("* goodbye");
    assert_eq!(bert.line(), None);
    elsewhere.hears("* berta has gone");
    elsewhere.says(&"x".repeat(513));
    elsewhere.hears("* line is longer than 512 bytes");
    elsewhere.hears("* goodbye");
    // Whoever is gone without a word is missed all the same.
    let dora = Person::joins(chat.address, "dora", "tea");
    anna.hears("* dora has come");
    reset(dora.0.into_inner());
    anna.hears("* dora has gone");
    anna.says("/who");
    anna.hears("* in tea: anna");
}

#[test]
fn everybody_is_told_goodbye() {
    let mut chat = Program::start("chat", &["--workers", "2"]);
    let mut people: Vec<Person> =
        (0..20).map(|n| Person::joins(chat.address, &format!("p{n}"), "room")).collect();
    let pid = Pid::from_raw(chat.pid() as i32).expect("a process");
    kill_process(pid, Signal::TERM).expect("it runs");
    for person in &mut people {
        person.waits_for("* goodbye");
        while person.line().is_some() {}
    }
    assert!(chat.ends().success());
}

/// Rooms of twenty, and how much each says.
const ROOMS: usize = 50;
const SEATS: usize = 20;
const SAID: usize = 4;

/// Reads what the others in the room say: all of it, each of them in order, nothing twice. Those who are reset are
/// heard from the first up to any.
fn hears_all(person: &mut Person, seat: usize, room: usize, resets: &[usize]) {
    let mut heard = [0; SEATS];
    let is_done = |heard: &[usize; SEATS]| {
        (0..SEATS).all(|other| other == seat || heard[other] == SAID || resets.contains(&other))
    };
    while !is_done(&heard) {
        let line = person.line().expect("more to come");
        if line.starts_with("* ") {
            assert!(!line.contains("left out"), "room {room}, seat {seat}: {line}");
            continue;
        }
        let parts = line.strip_prefix(&format!("<r{room}s")).and_then(|rest| rest.split_once("> line "));
        let (other, number) = parts.unwrap_or_else(|| panic!("room {room}, seat {seat}: {line}"));
        let other: usize = other.parse().expect("a seat");
        assert_ne!(other, seat, "nobody hears themselves");
        assert_eq!(number.parse(), Ok(heard[other]), "room {room}, seat {seat}: {line}");
        heard[other] += 1;
    }
}

#[test]
fn a_thousand_hear_each_other_whoever_is_torn_away_or_does_not_read() {
    let descriptors = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors })
        .expect("up to the hard limit");
    let chat = Program::start("chat", &["--workers", "2"]);
    let before = chat.resident_kib();
    let began = Instant::now();
    let mut rooms: Vec<Vec<Person>> = (0..ROOMS)
        .map(|room| {
            let name = |seat| format!("r{room}s{seat}");
            (0..SEATS).map(|seat| Person::joins(chat.address, &name(seat), &format!("room{room}"))).collect()
        })
        .collect();
    let joined = (began.elapsed(), chat.resident_kib().saturating_sub(before));
    // In every fifth room somebody listens who never reads.
    let deaf: Vec<TcpStream> = (0..ROOMS).step_by(5).map(|room| stops_reading(chat.address, room)).collect();
    let (began, cpu) = (Instant::now(), chat.cpu_time());
    for number in 0..SAID {
        for person in rooms.iter_mut().flatten() {
            person.says(&format!("line {number}"));
        }
        // In the middle of it somebody is torn away from every tenth room.
        if number == SAID / 2 {
            for room in rooms.iter_mut().step_by(10) {
                reset(room.pop().expect("the last seat").0.into_inner());
            }
        }
    }
    for (room, people) in rooms.iter_mut().enumerate() {
        let torn = if room % 10 == 0 { &[SEATS - 1][..] } else { &[] };
        for (seat, person) in people.iter_mut().enumerate() {
            hears_all(person, seat, room, torn);
        }
        if let [_] = torn {
            people[0].says("/who");
            until("nobody sees who was torn away", || {
                people[0].says("/who");
                let names = loop {
                    let line = people[0].line().expect("more to come");
                    if line.starts_with("* in room") {
                        break line;
                    }
                };
                !names.contains(&format!("r{room}s{}", SEATS - 1))
            });
        }
    }
    let lines = ROOMS * SEATS * (SEATS - 1) * SAID;
    eprintln!(
        "{} members joined in {:?}, {} KiB each; about {lines} lines heard in {:?}, {:?} of CPU; {} KiB in all",
        ROOMS * SEATS,
        joined.0,
        joined.1 / (ROOMS * SEATS) as u64,
        began.elapsed(),
        chat.cpu_time() - cpu,
        chat.resident_kib().saturating_sub(before),
    );
    drop(deaf);
}

/// A member with a small receive buffer, who joins and then does not read.
fn stops_reading(to: SocketAddr, room: usize) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a descriptor is left");
    socket.set_recv_buffer_size(4096).expect("a TCP socket");
    socket.set_read_timeout(Some(LONG)).expect("any time but zero");
    socket.connect(&to.into()).expect("it listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(format!("/join room{room}\n").as_bytes()).expect("it reads");
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(1, &stream);
    while !line.ends_with(&format!("you are in room{room}\n")) {
        assert_ne!(reader.read_line(&mut line).expect("a line"), 0);
    }
    stream
}

/// Much is said, and ten do not read: what they miss they are told of, and the books balance.
#[test]
fn who_does_not_read_misses_some_holds_little_and_nobody_up() {
    const LINES: usize = 6000;
    let chat = Program::start("chat", &["--workers", "2", "--queue", "64"]);
    let mut witness = Person::joins(chat.address, "witness", "room0");
    let talker = Person::joins(chat.address, "talker", "room0");
    witness.waits_for("* talker has come");
    // Once before, so that what the workers take for themselves does not count.
    is_heard(&talker, &mut witness, LINES);
    let before = chat.resident_kib();
    let deaf: Vec<TcpStream> = (0..10).map(|_| stops_reading(chat.address, 0)).collect();
    is_heard(&talker, &mut witness, LINES);
    let grown = chat.resident_kib().saturating_sub(before);
    eprintln!("{} KiB said past 10 members that do not read: {grown} KiB more memory", LINES * 490 / 1024);
    // Without a bound it would be ten times what was said.
    assert!(grown < 10 * 512, "{grown} KiB");
    // Now they read. What is missing is told with the first that fits again.
    for deaf in deaf {
        balances(&mut Person(BufReader::new(deaf)), talker.0.get_ref(), LINES);
    }
}

/// Says so many lines, and waits until they are heard.
fn is_heard(talker: &Person, witness: &mut Person, lines: usize) {
    let mut says = talker.0.get_ref().try_clone().expect("a descriptor is left");
    let saying = thread::spawn(move || {
        for number in 0..lines {
            says.write_all(format!("{number} {}\n", "x".repeat(480)).as_bytes()).expect("it reads");
        }
    });
    let mut next = 0;
    while next < lines {
        let line = witness.line().expect("more to come");
        match (missed(&line), number(&line)) {
            // A machine that is busy may be slow to read here, too; then that is said.
            (Some(count), _) => next += count,
            (None, Some(number)) => {
                assert_eq!(number, next, "{line}");
                next += 1;
            }
            (None, None) => assert!(line.ends_with(" has come"), "{line}"),
        }
    }
    saying.join().expect("no panic");
}

/// Reads all there is until something new comes through, and checks that nothing is unaccounted for.
fn balances(person: &mut Person, mut talker: &TcpStream, lines: usize) {
    let (mut next, mut left_out) = (0, 0);
    person
        .0
        .get_ref()
        .set_read_timeout(Some(std::time::Duration::from_millis(200)))
        .expect("any time but zero");
    let mut line = String::new();
    loop {
        match person.0.read_line(&mut line) {
            Ok(0) => panic!("the end after {next} lines"),
            Ok(_) => {}
            // All was read that there was: something new has a place.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                talker.write_all(b"still there?\n").expect("it reads");
                continue;
            }
            Err(error) => panic!("{error}"),
        }
        let whole = std::mem::take(&mut line);
        let whole = whole.trim_end();
        if let Some(count) = missed(whole) {
            (next, left_out) = (next + count, left_out + count);
        } else if whole.ends_with("still there?") {
            break;
        } else if let Some(number) = number(whole) {
            assert_eq!(number, next, "{whole}");
            next += 1;
        }
    }
    assert!(left_out > 0 && next >= lines, "{next} of {lines} accounted for, {left_out} of these left out");
}

fn missed(line: &str) -> Option<usize> {
    line.strip_prefix("* ")?.strip_suffix(" lines were left out: you read too slowly")?.parse().ok()
}

fn number(line: &str) -> Option<usize> {
    line.strip_prefix("<talker> ")?.split(' ').next()?.parse().ok()
}

#[test]
fn who_names_some_of_many_so_that_the_answer_is_a_line_like_any_other() {
    let chat = Program::start("chat", &["--workers", "2"]);
    let mut people: Vec<Person> =
        (0..25).map(|n| Person::joins(chat.address, &format!("guest-{n}"), "tea")).collect();
    let last = people.last_mut().expect("25");
    last.says("/who");
    let line = last.line().expect("an answer");
    assert!(line.starts_with("* in tea: ") && line.ends_with(" and 5 more"), "{line}");
    assert_eq!(line.matches("guest-").count(), 20);
}
