//! The examples, as processes, driven by the clients that everybody has.

#![allow(clippy::print_stdout)] // It says how it went.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::process::{Command, Stdio};

use support::common::{LONG, client, on_epoll, round, until};
use support::{Program, prints, tool};

const HELLO: &str = "Hello, World!";
const NOT_ALLOWED: &str = "method not allowed\n";

/// A response to a request whose method is `method`.
#[derive(Debug)]
struct Response {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn read(reader: &mut impl BufRead, method: &str) -> Option<Response> {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a response or the end");
        if line.is_empty() {
            return None;
        }
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line}"));
        let mut response = Response { status, fields: Vec::new(), body: String::new() };
        loop {
            line.clear();
            reader.read_line(&mut line).expect("a field or the end of the head");
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(':').expect("name and value");
            response.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if method != "HEAD" {
            let length =
                response.field("content-length").and_then(|length| length.parse().ok()).expect("a length");
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the whole body");
            response.body = String::from_utf8(body).expect("text");
        }
        Some(response)
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| &value[..]);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes once");
        value
    }

    fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }
}

/// Sends `requests`, and reads a response for each of `methods`, and after these the end if `ends`.
fn talk(to: &Program, requests: &str, methods: &[&str], ends: bool) -> Vec<Response> {
    let mut stream = client(to.address);
    stream.write_all(requests.as_bytes()).expect("the server reads");
    let mut reader = BufReader::new(stream);
    let read =
        |method: &&str| Response::read(&mut reader, method).unwrap_or_else(|| panic!("the end: {requests}"));
    let responses = methods.iter().map(read).collect();
    if ends {
        assert!(Response::read(&mut reader, "GET").is_none(), "nothing comes after the last response");
    }
    responses
}

fn statuses(responses: &[Response]) -> Vec<u16> {
    responses.iter().map(|response| response.status).collect()
}

#[test]
fn echo_sends_back() {
    let echo = Program::start("echo", &[]);
    let mut stream = client(echo.address);
    for len in [1, 1000, 100_000] {
        let sent = vec![b'e'; len];
        assert!(round(&mut stream, &sent).expect("an echo") == sent);
    }
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
}

#[test]
fn lines_are_shouted_back() {
    let lines = Program::start("lines", &["--workers", "1"]);
    let mut stream = client(lines.address);
    stream.write_all(b"hello\nworld\r\nthe last").expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    assert_eq!(answer, "HELLO\nWORLD\nTHE LAST\n");

    let mut stream = client(lines.address);
    stream.write_all(&[b'x'; 2000]).expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    assert!(answer.starts_with("ERROR "), "{answer}");
}

#[test]
fn http_responses_have_what_they_need() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    let responses = talk(&http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET"], false);
    let hello = &responses[0];
    assert_eq!((hello.status, &hello.body[..]), (200, HELLO));
    assert_eq!(hello.field("server"), Some("campanile"));
    assert!(hello.field("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    assert!(hello.field("date").is_some_and(|date| date.len() == 29 && date.ends_with(" GMT")), "{hello:?}");
    assert!(!hello.closes());
}

#[test]
fn udp_echo_sends_back_what_it_gets_whichever_worker_that_is() {
    let echo = Program::start("udp-echo", &["--workers", "2"]);
    let clients: Vec<UdpSocket> =
        (0..20).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    for round in 0..10u8 {
        for (client, n) in clients.iter().zip(0..) {
            let sent = vec![n ^ round; usize::from(n) * usize::from(round)];
            client.set_read_timeout(Some(LONG)).expect("any time but zero");
            client.send_to(&sent, echo.address).expect("loopback");
            let mut got = vec![0; 1 << 16];
            let (len, from) = client.recv_from(&mut got).expect("an answer");
            assert_eq!((&got[..len], from), (&sent[..], echo.address));
        }
    }
}

#[test]
fn http_requests_are_answered_in_order() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /";
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3;x=y\r\nGET\r\n10\r\n0123456789abcdef\r\n0\r\nTrailer: t\r\n\r\n";
    let requests = [get, head, post, chunked, get, chunked, head, post, get].concat();
    let methods = ["GET", "HEAD", "POST", "PUT", "GET", "PUT", "HEAD", "POST", "GET"];
    let responses = talk(&http, &requests.repeat(20), &methods.repeat(20), false);
    assert_eq!(statuses(&responses), [200, 200, 405, 405, 200, 405, 200, 405, 200].repeat(20));
    for (response, method) in responses.iter().zip(methods.iter().cycle()) {
        let body = match *method {
            "GET" => HELLO,
            "HEAD" => "",
            _ => NOT_ALLOWED,
        };
        assert_eq!(response.body, body);
        if *method == "HEAD" {
            assert_eq!(response.field("content-length"), Some("13"));
        }
        if response.status == 405 {
            assert_eq!(response.field("allow"), Some("GET, HEAD"));
        }
    }
}

#[test]
fn http_connections_end_when_they_should() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    let after = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, method) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, CLOSE\r\n\r\n", "GET"),
        ("GET / HTTP/1.0\r\n\r\n", "GET"),
        ("HEAD / HTTP/1.0\r\nHost: a\r\n\r\n", "HEAD"),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "POST"),
    ] {
        let responses = talk(&http, &[request, after].concat(), &[method], true);
        assert!(responses[0].closes(), "{request}");
    }
    // HTTP/1.0 goes on if the client asks for it, and then it is said that it does.
    let request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".repeat(2);
    let responses = talk(&http, &request, &["GET", "GET"], false);
    assert!(
        responses.iter().all(|response| response.field("connection") == Some("keep-alive")),
        "{responses:?}"
    );
    // A client that sends no more still gets its answers.
    let mut stream = client(http.address);
    stream.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50).as_bytes()).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let mut reader = BufReader::new(stream);
    let answers = std::iter::from_fn(|| Response::read(&mut reader, "GET")).count();
    assert_eq!(answers, 50);
}

#[test]
fn http_refuses_what_is_no_request() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    for (request, status) in [
        ("GET\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nBad name: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("GET / HTTP/2.5\r\nHost: a\r\n\r\n", 505),
        ("\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (&long, 431),
        (&many, 431),
        (&target, 414),
    ] {
        let after = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
        let responses = talk(&http, &[request, after].concat(), &["GET"], true);
        let shown = &request[..request.len().min(60)];
        assert_eq!((responses[0].status, responses[0].closes()), (status, true), "{shown:?}");
    }
    // A body that breaks its framing ends the connection, and so what it came with is refused.
    let broken = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n";
    assert_eq!(statuses(&talk(&http, broken, &["POST"], true)), [400]);
    // And others never notice.
    assert_eq!(statuses(&talk(&http, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &["GET"], false)), [200]);
}

#[test]
fn http_answers_who_waits_before_sending_a_body() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n";
    // The final answer, at once: the body is not worth sending.
    let responses = talk(&http, request, &["POST"], false);
    assert_eq!((responses[0].status, responses[0].closes()), (405, true));
    if let Some(mut curl) = tool("curl") {
        let url = format!("http://{}/", http.address);
        let body = "x".repeat(100_000);
        let mut child = curl
            .args(["-sS", "-o", "-", "-w", "%{http_code}", "-H", "Expect: 100-continue", "-T", "-", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl is installed");
        // Whether curl still wants the body is its own affair.
        let _ = child.stdin.take().expect("it is piped").write_all(body.as_bytes());
        let done = child.wait_with_output().expect("curl ends");
        assert!(done.status.success() && done.stdout.ends_with(b"405"), "{done:?}");
    }
}

#[test]
fn the_date_is_live() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    let mut stream = client(http.address);
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor is left"));
    let mut date = || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
        let response = Response::read(&mut reader, "GET").expect("a response");
        response.field("date").expect("a date").to_owned()
    };
    let first = date();
    let mut dates = vec![first];
    until("the date has moved twice", || {
        let now = date();
        if dates.last() != Some(&now) {
            dates.push(now);
        }
        dates.len() == 3
    });
    if let Some(mut tool) = tool("date") {
        let real: u64 = prints(tool.args(["+%s"])).trim().parse().expect("seconds");
        let mut parse = Command::new("date");
        let told: u64 = prints(parse.args(["-d", &date(), "+%s"])).trim().parse().expect("seconds");
        assert!(told.abs_diff(real) <= 2, "{told} and {real}");
    }
}

#[test]
fn http_sixteen_deep() {
    let http = Program::start("http-hello", &[]);
    let batch = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut stream = client(http.address);
                let mut reader = BufReader::new(stream.try_clone().expect("a descriptor is left"));
                for _ in 0..200 {
                    stream.write_all(batch.as_bytes()).expect("the server reads");
                    for _ in 0..16 {
                        let response = Response::read(&mut reader, "GET").expect("a response");
                        assert_eq!((response.status, &response.body[..]), (200, HELLO));
                    }
                }
            });
        }
    });
}

#[test]
fn curl_is_answered() {
    let http = Program::start("http-hello", &[]);
    let url = format!("http://{}/", http.address);
    let curl = |arguments: &[&str]| Some(prints(tool("curl")?.args(["-sS"]).args(arguments).arg(&url)));
    let Some(hello) = curl(&[]) else { return };
    assert_eq!(hello, HELLO);
    assert_eq!(curl(&["--http1.0"]).as_deref(), Some(HELLO));
    assert!(curl(&["-I"]).is_some_and(|head| head.starts_with("HTTP/1.1 200") && !head.contains(HELLO)));
    assert_eq!(curl(&["-d", "a body", "-w", "%{http_code}"]).as_deref(), Some("method not allowed\n405"));
    // Several on one connection.
    assert_eq!(
        curl(&[&url, &url, "-w", "%{num_connects}"]),
        Some([HELLO, "1", HELLO, "0", HELLO, "0"].concat())
    );
}

#[test]
fn handlers_that_wait_answer_too() {
    let http = Program::start("http-async", &["--workers", "1"]);
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let responses = talk(&http, &[get("/after/10"), get("/"), get("/after/x")].concat(), &["GET"; 3], false);
    let bodies: Vec<_> = responses.iter().map(|response| (response.status, &response.body[..])).collect();
    assert_eq!(
        bodies,
        [(200, "after 10 ms\n"), (200, "Hello, World!\n"), (400, "say how many milliseconds\n")]
    );
    let body = "GET / ".repeat(10_000);
    let post = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let echoed = talk(&http, &post.repeat(3), &["POST"; 3], false);
    assert!(echoed.iter().all(|response| response.body == body));
    if let Some(mut curl) = tool("curl") {
        let url = format!("http://{}/ticks", http.address);
        assert_eq!(prints(curl.args(["-sSN", &url])), "1\n2\n3\n4\n5\n");
    }
}

/// The requests that wrk counted; none of them may have failed.
fn wrk(http: &Program, connections: &str) -> Option<u64> {
    let url = format!("http://{}/", http.address);
    let text = prints(tool("wrk")?.args(["-t2", connections, "-d2s", &url]));
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in")?.0.parse().ok());
    let requests = requests.expect("wrk says how many");
    assert!(requests > 0, "{text}");
    eprintln!("wrk {connections}: {requests} requests in 2 s");
    Some(requests)
}

#[test]
fn wrk_meets_no_error() {
    let http = Program::start("http-hello", &[]);
    wrk(&http, "-c64");
    wrk(&http, "-c512");
}

#[test]
fn ab_meets_no_error() {
    let http = Program::start("http-hello", &[]);
    let url = format!("http://{}/", http.address);
    for keep_alive in [&["-k"][..], &[]] {
        let Some(mut ab) = tool("ab") else { return };
        let text = prints(ab.args(["-q", "-n", "5000", "-c", "50"]).args(keep_alive).arg(&url));
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| rest.trim_start_matches(':').trim().to_owned())
        };
        assert_eq!(figure("Complete requests").as_deref(), Some("5000"), "{text}");
        assert_eq!(figure("Failed requests").as_deref(), Some("0"), "{text}");
        assert_eq!(figure("Non-2xx responses"), None, "{text}");
    }
}

#[test]
fn python_is_answered() {
    let http = Program::start("http-hello", &[]);
    let Some(mut python) = tool("python3") else { return };
    let script = "\
import http.client, sys
connection = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=20)
for turn in range(300):
    method, body = [('GET', None), ('HEAD', None), ('POST', b'x' * 70000), ('PUT', iter([b'ab', b'cd']))][turn % 4]
    connection.request(method, '/', body, encode_chunked=True)
    response = connection.getresponse()
    found = (response.status, response.read())
    expected = {'GET': (200, b'Hello, World!'), 'HEAD': (200, b'')}.get(method, (405, b'method not allowed\\n'))
    assert found == expected, (turn, found)
print('done')
";
    let text = prints(python.args(["-c", script, &http.address.port().to_string()]));
    assert_eq!(text.trim(), "done");
}

#[test]
fn one_system_call_serves_many_requests() {
    let http = Program::start("http-hello", &["--workers", "1"]);
    // Everything that is done once is done before strace looks.
    assert!(TcpStream::connect(http.address).is_ok());
    let (Some(mut strace), Some(_)) = (tool("strace"), tool("wrk")) else { return };
    let pid = http.pid().to_string();
    let mut strace =
        strace.args(["-f", "-c", "-p", &pid]).stderr(Stdio::piped()).spawn().expect("it is installed");
    let mut said = BufReader::new(strace.stderr.take().expect("it is piped"));
    let mut line = String::new();
    said.read_line(&mut line).expect("strace says that it is attached");
    if !line.contains("attached") {
        eprintln!("skipped: strace may not look at other processes here: {line}");
        let _ = strace.wait();
        return;
    }
    let requests = wrk(&http, "-c64").expect("wrk is installed");
    let strace_pid = rustix::process::Pid::from_child(&strace);
    rustix::process::kill_process(strace_pid, rustix::process::Signal::INT).expect("it runs");
    let mut table = String::new();
    said.read_to_string(&mut table).expect("a table");
    let _ = strace.wait();
    // % time, seconds, usecs/call, calls, [errors], syscall
    let calls = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let name = (*columns.last()?).to_owned();
        Some((name, columns.get(3)?.parse::<u64>().ok()?))
    };
    let called: Vec<(String, u64)> =
        table.lines().filter_map(calls).filter(|(name, _)| name != "total").collect();
    eprintln!("strace -c at 64 connections, {requests} requests: {called:?}");
    if on_epoll() {
        // One to receive, one to send, one to wait for as many as there are; and what connections cost once.
        let most = requests + 64 * 10;
        for (name, calls) in called {
            let is_once = ["accept4", "close", "epoll_ctl", "ioctl", "shutdown"].contains(&&name[..]);
            let is_each = ["recvfrom", "sendto", "epoll_pwait"].contains(&&name[..]);
            assert!(is_each && calls <= most || is_once && calls < 64 * 10, "{calls} times {name}:\n{table}");
        }
        return;
    }
    let [(name, enters)] = &called[..] else { panic!("only io_uring_enter on the request path:\n{table}") };
    assert_eq!(name, "io_uring_enter");
    assert!(*enters < requests, "{enters} system calls for {requests} requests");
}
