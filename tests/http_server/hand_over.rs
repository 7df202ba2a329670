//! The hand-over: sockets that come from systemd, and from the process before; and what systemd is told.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_child_subreaper, test_kill_process, waitpid,
};

use crate::callers::{Call, Calls};
use crate::site::{Folder, Site, program};
use crate::stopping::begin;
use crate::support::common::{LONG, client, until};
use crate::support::examples;

/// The processes of a server, one after the other; the last is killed when dropped.
struct Line {
    site: Site,
    folder: Folder,
    /// The one that serves, unless it is the first.
    last: Option<Pid>,
}

impl Line {
    /// Each successor has as many workers as a file says when it is started.
    fn start(at: &[&str], arguments: &[&str]) -> Line {
        set_child_subreaper(Some(Pid::INIT)).expect("any process may");
        let folder = Folder::new();
        let script = folder.path("successor");
        execs(&script, &format!("export HTTP_WORKERS=$(cat '{}')", folder.path("workers")));
        let mut command = program(&["--successor", &script]);
        command.args(arguments).env("HTTP_WORKERS", "1");
        Line { site: Site::run(command, at), folder, last: None }
    }

    fn said(&self, what: &str) -> usize {
        self.site.said().matches(what).count()
    }

    fn signal(&self, signal: Signal) {
        match self.last {
            Some(pid) => kill_process(pid, signal).expect("it runs"),
            None => self.site.signal(signal),
        }
    }

    /// Waits until the one that serves has ended, and checks that it ended well.
    fn ends(&mut self) {
        match self.last.take() {
            None => assert_eq!(self.site.ends().code(), Some(0), "{}", self.site.said()),
            Some(pid) => until("it ends", || match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => {
                    assert_eq!(status.exit_status(), Some(0), "{}", self.site.said());
                    true
                }
                Ok(None) => false,
                Err(error) => panic!("{error}: nobody's child: {}", self.site.said()),
            }),
        }
    }

    /// Has the next one take over, with so many workers.
    fn restart(&mut self, workers: usize) {
        fs::write(self.folder.path("workers"), workers.to_string()).expect("there is room");
        let before = self.said("takes over");
        self.signal(Signal::USR2);
        self.next(before);
    }

    /// Waits until the next one has taken over, after so many.
    fn next(&mut self, before: usize) {
        until("the next takes over", || self.said("takes over") > before);
        let said = self.site.said();
        let line = said.lines().filter(|line| line.contains("takes over")).nth(before).expect("counted");
        let words = line.split(' ').skip_while(|word| *word != "process");
        let pid = words.skip(1).find_map(|word| word.parse().ok()).and_then(Pid::from_raw);
        self.ends();
        self.last = Some(pid.expect("its number"));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(pid) = self.last {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Makes a script that does something and goes on as the server.
fn execs(script: &str, first: &str) {
    let server = examples().join("http-server");
    let text = format!("#!/bin/sh\n{first}\nexec '{}' \"$@\"\n", server.display());
    fs::write(script, text).expect("there is room");
    fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Restarts under so many callers; every answer is checked, and nobody is refused, reset or left waiting.
fn restarts(count: usize, callers: u8, per_request: impl Fn(u8) -> bool) {
    let mut line = Line::start(&["127.0.0.1:0"], &["--drain-grace", "5s"]);
    let (to, calls) = (line.site.address(), Calls::default());
    let answered = || calls.answered.load(Ordering::Relaxed);
    let workers = |restart: usize| [2, 4, 1][restart % 3];
    thread::scope(|scope| {
        for caller in 1..=callers {
            let (calls, per_request) = (&calls, per_request(caller));
            scope.spawn(move || calls.call(to, caller, per_request));
        }
        let is_wrong = || !calls.wrong().is_empty();
        for restart in (0..count).take_while(|_| !is_wrong()) {
            line.restart(workers(restart));
            let before = answered();
            until("it answers", || answered() > before + 10 * u64::from(callers) || is_wrong());
        }
        calls.stop.store(true, Ordering::Relaxed);
    });
    let connections = calls.connections.load(Ordering::Relaxed);
    eprintln!("{count} restarts: {} requests on {connections} connections answered", answered());
    assert_eq!(calls.wrong(), [""; 0], "{}", line.site.said());
    for (kind, text) in [(2, " with 2 workers "), (4, " with 4 workers ")] {
        let expected = (0..count).filter(|&restart| workers(restart) == kind).count();
        assert_eq!(line.said(text), expected, "{}", line.site.said());
    }
    line.signal(Signal::TERM);
    line.ends();
}

#[test]
fn twenty_restarts_refuse_nobody_and_lose_nothing() {
    restarts(20, 20, |caller| caller % 5 == 0);
}

/// Where nobody else comes, a connection whose news is lost waits for ever.
#[test]
fn a_lone_caller_is_not_forgotten() {
    restarts(40, 1, |_| true);
}

#[test]
fn who_waits_in_a_queue_is_served_by_the_next_process() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let at = ["127.0.0.1:0", &format!("unix:{path}")];
    let mut line = Line::start(&at, &["--max-connections", "1", "--drain-grace", "50ms"]);
    let to = line.site.address();
    let mut first = Call::connect(to, 1).expect("it listens");
    assert_eq!(first.ask(false), Ok(true));
    // There is no place for them in the first process.
    let mut waiting = Call::connect(to, 2).expect("the kernel has room");
    let mut by_path = UnixStream::connect(&path).expect("the kernel has room");
    by_path.set_read_timeout(Some(LONG)).expect("any time but zero");
    by_path.write_all(b"GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("room");
    let asked = thread::spawn(move || waiting.ask(true).and_then(|_| waiting.ends()));
    fs::write(line.folder.path("workers"), "2").expect("there is room");
    line.signal(Signal::USR2);
    let mut answer = String::new();
    by_path.read_to_string(&mut answer).expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert_eq!(asked.join().expect("no panic"), Ok(()));
    // The file is there for as long as somebody listens on it.
    drop(first);
    line.next(0);
    line.restart(1);
    drop(UnixStream::connect(&path).expect("it listens"));
    line.signal(Signal::TERM);
    line.ends();
    assert!(!fs::exists(&path).expect("the folder is there"), "the last one removes it");
}

#[test]
fn a_successor_that_does_not_start_is_told_and_the_server_goes_on() {
    for (successor, sentence) in [("/nowhere/at/all", "cannot be started"), ("false", "ended before")] {
        let site = Site::start(&["--successor", successor]);
        let mut kept = Call::connect(site.address(), 1).expect("it listens");
        assert_eq!(kept.ask(false), Ok(true));
        site.signal(Signal::USR2);
        until("it is told", || {
            let said = site.said();
            said.contains(sentence) && said.contains("this process goes on")
        });
        assert_eq!(kept.ask(false), Ok(true));
        assert_eq!(Call::connect(site.address(), 1).expect("it listens").ask(true), Ok(false));
        drop(kept);
        site.stop();
    }
}

/// Whoever is asked to stop while it starts another leaves none behind.
#[test]
fn a_stop_during_a_hand_over_stops_both() {
    let folder = Folder::new();
    let (script, number) = (folder.path("successor"), folder.path("number"));
    execs(&script, &format!("echo $$ >'{number}.new'\nmv '{number}.new' '{number}'\nsleep 1"));
    // Nobody else is on this address, so that its port is nobody's afterwards.
    let mut site = Site::listen(&["127.0.0.77:0"], &["--successor", &script]);
    let address = site.address();
    site.signal(Signal::USR2);
    until("the other is started", || fs::exists(&number).expect("the folder is there"));
    site.signal(Signal::TERM);
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    let pid = fs::read_to_string(&number).expect("it is there").trim().parse().expect("a number");
    let pid = Pid::from_raw(pid).expect("a process");
    assert_eq!(test_kill_process(pid), Err(Errno::SRCH), "it is left behind: {}", site.said());
    assert!(!site.said().contains("takes over"), "{}", site.said());
    // Its `sleep` has the sockets until it is over.
    until("the port is free", || TcpListener::bind(address).is_ok());
}

/// A server that is started as systemd starts the service of a socket unit.
fn activated(listener: TcpListener, arguments: &[&str]) -> Site {
    let server = examples().join("http-server");
    // The process is to be told its own number, and the socket is to be its descriptor 3.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$@\" 3<&0 </dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(server).args(arguments).stdin(OwnedFd::from(listener));
    Site::run(command, &[])
}

#[test]
fn sockets_of_a_service_manager_are_served_by_every_worker() {
    for workers in ["1", "3"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let to = listener.local_addr().expect("it is bound");
        // Whoever comes before it is started waits.
        let mut early = client(to);
        early.write_all(b"GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("room");
        let kept = listener.try_clone().expect("a descriptor is left");
        let site = activated(listener, &["--workers", workers]);
        let mut answer = String::new();
        early.read_to_string(&mut answer).expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        let mut calls: Vec<Call> = (0..20).map(|_| Call::connect(to, 1).expect("it listens")).collect();
        assert!(calls.iter_mut().all(|call| call.ask(false) == Ok(true)));
        drop(calls);
        site.stop();
        // The manager has the socket still, and starts it again for the next client.
        let mut late = Call::connect(to, 1).expect("somebody listens");
        let site = activated(kept, &["--workers", workers]);
        assert_eq!(late.ask(true), Ok(false));
        site.stop();
    }
}

#[test]
fn what_is_no_socket_is_refused_by_its_number() {
    let mut command = Command::new("sh");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3</dev/null";
    command.args(["-c", script, "sh"]).arg(examples().join("http-server"));
    let done = command.output().expect("there is a shell");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.starts_with("error: descriptor 3 is no stream socket"), "{said}");
    assert_eq!(done.status.code(), Some(1));
}

/// Who waits in their queues would wait for ever.
#[test]
fn sockets_of_a_process_that_has_ended_are_not_left_unserved() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    // No process has so high a number.
    let script = "CAMPANILE_LISTENERS=4123456789:3:+4 exec \"$@\" 3<&0 4<&0 </dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(examples().join("http-server")).stdin(OwnedFd::from(listener));
    let done = command.output().expect("there is a shell");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(
        said.starts_with("error: the listening sockets here are for a child of process 4123456789"),
        "{said}"
    );
    assert_eq!((said.lines().count(), done.status.code()), (1, Some(1)), "{said}");
}

#[test]
fn the_service_manager_is_told_what_it_is_to_know() {
    let folder = Folder::new();
    let manager = UnixDatagram::bind(folder.path("notify")).expect("a folder of ours");
    manager.set_read_timeout(Some(LONG)).expect("any time but zero");
    let told = |what: &str| {
        until(what, || {
            let mut bytes = [0; 4096];
            let n = manager.recv(&mut bytes).expect("it is told soon");
            String::from_utf8_lossy(&bytes[..n]).lines().any(|line| line.starts_with(what))
        });
    };
    let mut command = program(&["--successor", "/nowhere/at/all"]);
    command.env("NOTIFY_SOCKET", folder.path("notify")).env("WATCHDOG_USEC", "100000");
    let site = Site::run(command, &["127.0.0.1:0"]);
    ["READY=1", "WATCHDOG=1", "WATCHDOG=1"].into_iter().for_each(told);
    site.signal(Signal::HUP);
    ["RELOADING=1", "READY=1"].into_iter().for_each(told);
    site.signal(Signal::USR2);
    ["RELOADING=1", "READY=1", "WATCHDOG=1"].into_iter().for_each(told);
    site.signal(Signal::TERM);
    told("STOPPING=1");
    site.stop();
}

/// That is the last word of the process before, whatever happens to it until it ends.
#[test]
fn the_service_manager_is_told_which_process_goes_on() {
    set_child_subreaper(Some(Pid::INIT)).expect("any process may");
    let folder = Folder::new();
    let (path, script) = (folder.path("notify"), folder.path("successor"));
    let manager = UnixDatagram::bind(&path).expect("a folder of ours");
    manager.set_read_timeout(Some(LONG)).expect("any time but zero");
    let told = thread::spawn(move || {
        let mut all = Vec::new();
        while all.last().is_none_or(|last| last != "over") {
            let mut bytes = [0; 4096];
            let n = manager.recv(&mut bytes).expect("it is told soon");
            all.push(String::from_utf8_lossy(&bytes[..n]).into_owned());
        }
        all
    });
    // The one that follows says nothing.
    execs(&script, "unset NOTIFY_SOCKET");
    let mut command = program(&["--successor", &script]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000");
    let mut line = Line { site: Site::run(command, &["127.0.0.1:0"]), folder, last: None };
    let mut begun = begin(&line.site, "1.1", "3\r\nabc\r\n");
    line.signal(Signal::USR2);
    until("the next takes over", || line.said("takes over") > 0);
    [Signal::HUP, Signal::TERM].into_iter().for_each(|signal| line.signal(signal));
    until("the first heeds them", || line.said("stopping when") > 0);
    begun.write_all(b"def").expect("it still reads");
    line.next(0);
    let over = UnixDatagram::unbound().expect("a descriptor is left");
    over.send_to(b"over", &path).expect("somebody listens");
    let told = told.join().expect("no panic");
    let [.., last, _] = &told[..] else { panic!("{told:?}") };
    let id = last.lines().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok());
    assert_eq!(id.and_then(Pid::from_raw), line.last, "{told:?}");
    line.signal(Signal::TERM);
    line.ends();
}
