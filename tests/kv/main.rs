//! The key-value store: as a process, over raw sockets and by Redis' own tools; and its codec by itself.

mod codec;
#[path = "../../examples/kv/glob.rs"]
mod glob;
#[path = "../support/mod.rs"]
mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use support::common::{client, until};
use support::{Program, prints, tool};

/// Sends `request` and checks that `answer` comes, and no more than that.
fn ask(stream: &mut TcpStream, request: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) {
    let (request, answer) = (request.as_ref(), answer.as_ref());
    let shown = request.get(..80).unwrap_or(request).escape_ascii();
    stream.write_all(request).expect("it reads");
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(got == answer, "{shown}: {}", got.escape_ascii());
}

/// The same for a command that is typed as a line.
fn typed(stream: &mut TcpStream, line: &str, answer: &str) {
    ask(stream, format!("{line}\r\n"), answer);
}

fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend(format!("${}\r\n", argument.len()).bytes());
        request.extend_from_slice(argument);
        request.extend(b"\r\n");
    }
    request
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Everything that follows, up to the end.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    rest
}

const NO_INTEGER: &str = "-ERR value is not an integer or out of range\r\n";
const SYNTAX: &str = "-ERR syntax error\r\n";

#[test]
fn a_pattern_that_would_hold_up_everybody_is_refused() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    ask(&mut stream, request(&[b"SET", &[b'a'; 100_000], b"value"]), "+OK\r\n");
    let pattern = |len: usize| [&b"*"[..], &vec![b'a'; len - 2], b"b"].concat();
    ask(&mut stream, request(&[b"KEYS", &pattern(256)]), "*0\r\n");
    let refusal = "-ERR the pattern is longer than 256 bytes\r\n";
    ask(&mut stream, request(&[b"KEYS", &pattern(50_000)]), refusal);
    ask(&mut stream, request(&[b"SCAN", b"0", b"MATCH", &pattern(50_000)]), refusal);
}

#[test]
fn every_command_answers_as_redis_does() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    for (line, answer) in [
        ("PING", "+PONG\r\n"),
        ("ping hello", "$5\r\nhello\r\n"),
        ("ECHO hello", "$5\r\nhello\r\n"),
        ("ECHO", "-ERR wrong number of arguments for 'echo' command\r\n"),
        ("GET a", "$-1\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("SET a 2 NX", "$-1\r\n"),
        ("SET b 2 XX", "$-1\r\n"),
        ("SET a 2 XX GET", "$1\r\n1\r\n"),
        ("SET a 3 NX GET", "$1\r\n2\r\n"),
        ("SET c 3 GET", "$-1\r\n"),
        ("SET a 3 NX XX", SYNTAX),
        ("SET a 3 EX 1 PX 1", SYNTAX),
        ("SET a 3 EX", SYNTAX),
        ("SET a 3 EX 0", "-ERR invalid expire time\r\n"),
        ("SET a 3 EX -1", "-ERR invalid expire time\r\n"),
        ("SET a 3 EX x", NO_INTEGER),
        ("SET a 3 EX 9223372036854775807", "-ERR invalid expire time\r\n"),
        ("MGET a b c", "*3\r\n$1\r\n2\r\n$-1\r\n$1\r\n3\r\n"),
        ("INCR a", ":3\r\n"),
        ("INCRBY a -10", ":-7\r\n"),
        ("DECR a", ":-8\r\n"),
        ("DECR new", ":-1\r\n"),
        ("SET n 9223372036854775807", "+OK\r\n"),
        ("INCR n", "-ERR increment or decrement would overflow\r\n"),
        ("SET n 01", "+OK\r\n"),
        ("INCR n", NO_INTEGER),
        ("INCRBY a +1", NO_INTEGER),
        ("EXISTS a a b", ":2\r\n"),
        ("DEL a a b", ":1\r\n"),
        ("MSET a 1 b 2 a 3", "+OK\r\n"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("GET a", "$1\r\n3\r\n"),
        ("TTL a", ":-1\r\n"),
        ("TTL nobody", ":-2\r\n"),
        ("EXPIRE nobody 10", ":0\r\n"),
        ("EXPIRE a 1000", ":1\r\n"),
        ("PERSIST a", ":1\r\n"),
        ("PERSIST a", ":0\r\n"),
        ("TTL a", ":-1\r\n"),
        ("SET a 1 EX 100", "+OK\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("TTL a", ":-1\r\n"),
        ("EXPIRE a 0", ":1\r\n"),
        ("EXISTS a", ":0\r\n"),
        ("DBSIZE", ":4\r\n"),
        ("KEYS [bc]", "*2\r\n$1\r\nc\r\n$1\r\nb\r\n"),
        ("SCAN 0 MATCH ne? COUNT 100", "*2\r\n$1\r\n0\r\n*1\r\n$3\r\nnew\r\n"),
        ("SCAN x", NO_INTEGER),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFIG GET append*", "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"),
        ("COMMAND DOCS", "*0\r\n"),
        ("HELLO 3", "-NOPROTO unsupported protocol version\r\n"),
        ("FLUSHALL", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
        ("", ""),
        ("NOSUCH thing", "-ERR unknown command 'NOSUCH'\r\n"),
        ("QUIT", "+OK\r\n"),
    ] {
        typed(&mut stream, line, answer);
    }
    assert!(rest(stream).is_empty());
}

#[test]
fn requests_are_answered_however_they_are_cut() {
    let kv = Program::start("kv", &[]);
    let requests = [
        request(&[b"SET", b"key", b"a\r\nvalue\0"]),
        request(&[b"GET", b"key"]),
        b"PING\n\r\n*0\r\n".to_vec(),
        request(&[b"NO\r\nSUCH"]),
        request(&[b"DEL", b"key"]),
    ]
    .concat();
    let answers = b"+OK\r\n$9\r\na\r\nvalue\0\r\n+PONG\r\n-ERR unknown command 'NO  SUCH'\r\n:1\r\n";
    let mut stream = client(kv.address);
    for at in 0..requests.len() {
        stream.write_all(&requests[..at]).expect("it reads");
        ask(&mut stream, &requests[at..], answers);
    }
    for byte in &requests {
        stream.write_all(&[*byte]).expect("it reads");
    }
    ask(&mut stream, b"", answers);
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert!(rest(stream).is_empty());
}

#[test]
fn what_is_no_request_is_told_so_and_ends() {
    let kv = Program::start("kv", &["--max-request", "1KiB"]);
    let long = request(&[b"ECHO", &[b'x'; 2000]]);
    for (sent, error) in [
        (&b"*x\r\n"[..], "invalid multibulk length"),
        (b"*-1\r\n", "invalid multibulk length"),
        (b"*99999\r\n", "invalid multibulk length"),
        (b"*1\r\n+PING\r\n", "expected '$'"),
        (b"*1\r\n$4\r\nPINGxx", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        (b"*3\r\n$500\r\n", "the end in the middle of a request"),
        (&long, "invalid bulk length"),
        (&[b'x'; 5000], "too big inline request: more than 4096 bytes"),
    ] {
        let mut stream = client(kv.address);
        stream.write_all(&[b"PING\r\n", sent].concat()).expect("it reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let answer = rest(stream);
        let expected = format!("+PONG\r\n-ERR Protocol error: {error}\r\n");
        assert_eq!(
            String::from_utf8_lossy(&answer),
            expected,
            "{}",
            sent[..sent.len().min(30)].escape_ascii()
        );
    }
    let mut stream = client(kv.address);
    let many = request(&[&[b'x'; 300][..]; 5]);
    stream.write_all(&many).expect("it reads");
    assert!(rest(stream).starts_with(b"-ERR Protocol error: too big request"));
}

#[test]
fn a_thousand_at_once_are_answered_in_order() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    let value = vec![b'v'; 20_000];
    ask(&mut stream, request(&[b"SET", b"long", &value]), "+OK\r\n");
    let (mut requests, mut answers) = (Vec::new(), Vec::new());
    for number in 1..=1000 {
        requests.extend(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\nGET n\r\nGET long\r\nSET long x GET\r\n");
        answers.extend(format!(":{number}\r\n").bytes());
        answers.extend(bulk(number.to_string().as_bytes()));
        answers.extend([bulk(&value), bulk(&value)].concat());
        requests.extend(request(&[b"SET", b"long", &value]));
        answers.extend(b"+OK\r\n");
    }
    let mut writer = stream.try_clone().expect("a descriptor is left");
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&requests).expect("it reads"));
        ask(&mut stream, b"", &answers);
    });
}

#[test]
fn keys_expire_whether_or_not_anybody_asks() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    for line in ["SET asked 1 PX 30", "SET unasked 1 PX 30", "SET stays 1"] {
        typed(&mut stream, line, "+OK\r\n");
    }
    typed(&mut stream, "SET later 1 PX 3000000", "+OK\r\n");
    let mut answers = |line: &str, len: usize| {
        stream.write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
        let mut answer = vec![0; len];
        stream.read_exact(&mut answer).expect("an answer");
        answer
    };
    // One digit, and then another.
    until("it is not found any more", || answers("EXISTS asked", 4) == b":0\r\n");
    until("the other is thrown away, too", || answers("DBSIZE", 4) == b":2\r\n");
    assert_eq!(
        answers("MGET stays later asked unasked", 28),
        b"*4\r\n$1\r\n1\r\n$1\r\n1\r\n$-1\r\n$-1\r\n"[..28]
    );
}

#[test]
fn deadlines_stay_or_go_with_their_value() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    for (line, answer, is_kept) in [
        ("SET a 1 EX 1000", "+OK\r\n", true),
        ("INCR a", ":2\r\n", true),
        ("SET a 5 KEEPTTL", "+OK\r\n", true),
        ("SET a 6", "+OK\r\n", false),
        ("EXPIRE a 1000", ":1\r\n", true),
        ("PERSIST a", ":1\r\n", false),
        ("PEXPIRE a 1000000", ":1\r\n", true),
    ] {
        typed(&mut stream, line, answer);
        stream.write_all(b"TTL a\r\n").expect("it reads");
        let left: i64 = line_of(&mut stream)[1..].parse().expect("a number");
        // However slow this machine is.
        assert!(if is_kept { (900..=1000).contains(&left) } else { left == -1 }, "{line}: {left}");
    }
}

#[test]
fn a_scan_sees_all_that_stays() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    for number in 0..1000 {
        typed(&mut stream, &format!("SET key:{number} 1"), "+OK\r\n");
    }
    let (mut cursor, mut seen, mut round) = ("0".to_owned(), Vec::new(), 0);
    loop {
        stream.write_all(format!("SCAN {cursor} COUNT 37\r\n").as_bytes()).expect("it reads");
        let answer = array(&mut stream);
        cursor.clone_from(&answer[0]);
        seen.extend_from_slice(&answer[1..]);
        if cursor == "0" {
            break;
        }
        // Every third one goes away meanwhile.
        ask(&mut stream, format!("DEL key:{} nobody\r\n", round * 3), ":1\r\n");
        round += 1;
    }
    for number in (0..1000).filter(|number| number % 3 != 0) {
        assert!(seen.contains(&format!("key:{number}")), "key:{number} was not seen");
    }
}

/// A line of an answer.
fn line_of(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        line.extend(byte);
    }
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

/// The bulk strings of an answer, nested ones included.
fn array(stream: &mut TcpStream) -> Vec<String> {
    let (mut left, mut strings) = (1, Vec::new());
    while left > 0 {
        left -= 1;
        let head = line_of(stream);
        match head.split_at(1) {
            ("*", len) => left += len.parse::<usize>().expect("a number"),
            ("$", _) => strings.push(line_of(stream)),
            _ => panic!("unexpected: {head}"),
        }
    }
    strings
}

#[test]
fn memory_is_bounded() {
    let kv = Program::start("kv", &["--max-memory", "4MiB"]);
    let mut stream = client(kv.address);
    let before = kv.resident_kib();
    let value = [b'v'; 1000];
    let mut stored = 0;
    loop {
        stream.write_all(&request(&[b"SET", format!("key:{stored}").as_bytes(), &value])).expect("it reads");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("an answer");
        if &answer != b"+OK\r\n" {
            assert_eq!(&answer, b"-OOM ");
            break;
        }
        stored += 1;
    }
    ask(&mut stream, b"", "command not allowed when used memory > 'maxmemory'\r\n");
    let grown = kv.resident_kib().saturating_sub(before);
    eprintln!("{stored} values of 1000 bytes in {grown} KiB of at most 4 MiB");
    assert!(stored > 3000 && grown < 12 * 1024, "{stored} values, {grown} KiB");
    // All or nothing; what is not longer than before always fits; and so does what was made room for.
    stream.write_all(&request(&[b"MSET", b"x", &value, b"y", &value])).expect("it reads");
    ask(&mut stream, b"", "-OOM command not allowed when used memory > 'maxmemory'\r\n");
    ask(&mut stream, request(&[b"SET", b"key:0", &value]), "+OK\r\n");
    typed(&mut stream, "EXISTS x y", ":0\r\n");
    typed(&mut stream, "DEL key:0 key:1 key:2", ":3\r\n");
    ask(&mut stream, request(&[b"MSET", b"x", &value, b"y", &value]), "+OK\r\n");
    typed(&mut stream, "FLUSHALL", "+OK\r\n");
    ask(&mut stream, request(&[b"SET", b"key:0", &value]), "+OK\r\n");
}

#[test]
fn who_does_not_read_holds_little_and_nobody_up() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    let value = vec![b'v'; 100_000];
    ask(&mut stream, request(&[b"SET", b"long", &value]), "+OK\r\n");
    let before = kv.resident_kib();
    let stalled: Vec<TcpStream> = (0..10)
        .map(|_| {
            let mut stream = client(kv.address);
            stream.set_nonblocking(true).expect("a socket");
            let requests = b"GET long\r\n".repeat(10_000);
            let mut sent = 0;
            // 1 GB is asked for by each, as far as the requests are taken.
            while let Some(piece) = requests.get(sent..).filter(|piece| !piece.is_empty()) {
                match stream.write(piece) {
                    Ok(n) => sent += n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            stream
        })
        .collect();
    for _ in 0..100 {
        ask(&mut stream, "GET long\r\n", bulk(&value));
    }
    let grown = kv.resident_kib().saturating_sub(before);
    eprintln!("10 clients that do not read hold {grown} KiB");
    assert!(grown < 10 * 3 * 1024, "{grown} KiB");
    drop(stalled);
}

#[test]
fn answers_are_bounded() {
    let kv = Program::start("kv", &[]);
    let mut stream = client(kv.address);
    ask(&mut stream, request(&[b"SET", b"long", &vec![b'v'; 500_000]]), "+OK\r\n");
    let keys = |count: usize| [&[&b"MGET"[..]][..], &vec![&b"long"[..]; count]].concat();
    let answer = bulk(&vec![b'v'; 500_000]).repeat(8);
    ask(&mut stream, request(&keys(8)), [&b"*8\r\n"[..], &answer].concat());
    ask(&mut stream, request(&keys(9)), "-ERR the answer would be longer than 4 MiB: ask for less\r\n");
    // As many as fit into a request.
    ask(&mut stream, request(&keys(90_000)), "-ERR the answer would be longer than 4 MiB: ask for less\r\n");
    // Many at once come in their turn.
    let asked = request(&keys(4)).repeat(20);
    ask(&mut stream, asked, [&b"*4\r\n"[..], &answer[..answer.len() / 2]].concat().repeat(20));
}

#[test]
fn redis_cli_is_content() {
    let kv = Program::start("kv", &[]);
    let port = kv.address.port().to_string();
    let cli = |arguments: &[&str]| Some(prints(tool("redis-cli")?.args(["-p", &port]).args(arguments)));
    let Some(pong) = cli(&["ping"]) else { return };
    assert_eq!(pong, "PONG\n");
    assert_eq!(cli(&["set", "a b", "c\nd", "ex", "100"]).as_deref(), Some("OK\n"));
    assert_eq!(cli(&["get", "a b"]).as_deref(), Some("c\nd\n"));
    assert_eq!(cli(&["persist", "a b"]).as_deref(), Some("1\n"));
    assert_eq!(cli(&["--scan", "--pattern", "a*"]).as_deref(), Some("a b\n"));
    assert!(cli(&["info"]).is_some_and(|info| info.contains("db0:keys=1,expires=0")));
    assert!(cli(&["no-such"]).is_some_and(|answer| answer.starts_with("ERR unknown command")));
    assert!(cli(&["hello", "2"]).is_some_and(|answer| answer.starts_with("server\ncampanile-kv\n")));
}

#[test]
fn redis_benchmark_is_served() {
    let kv = Program::start("kv", &[]);
    let Some(mut benchmark) = tool("redis-benchmark") else { return };
    let port = kv.address.port().to_string();
    benchmark.args(["-p", &port, "-c", "20", "-n", "10000", "-P", "16", "--csv", "-t"]);
    let text = prints(benchmark.arg("ping,set,get,incr,mset"));
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with('"') && !line.contains("rps")).collect();
    assert_eq!(rows.len(), 6, "{text}");
    assert!(!text.contains("WARN") && !text.contains("rror"), "{text}");
}

#[test]
fn patterns_match_as_those_of_redis() {
    for (pattern, text, is_match) in [
        ("*", "", true),
        ("", "a", false),
        ("a*c", "abbc", true),
        ("a*c", "abcb", false),
        ("*a*b*", "xaxxbx", true),
        ("*aab", "aaaab", true),
        ("h?llo", "hallo", true),
        ("h?llo", "hllo", false),
        ("h[ae]llo", "hello", true),
        ("h[a-d]llo", "hello", false),
        ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        (r"a\*", "a*", true),
        (r"a\*", "ab", false),
        ("[", "[", true),
        ("[]", "x", false),
        ("a[", "a[", true),
    ] {
        assert_eq!(glob::matches(pattern.as_bytes(), text.as_bytes()), is_match, "{pattern} {text}");
    }
    // Many stars take no more than the product of both lengths.
    assert!(!glob::matches("a*".repeat(1000).as_bytes(), "a".repeat(999).as_bytes()));
}
