#![allow(unsafe_code)] // To install a system call filter between fork and exec, which no safe wrapper does.
//! Confined: where only those system calls are allowed that the repository's own profile lists, and where io_uring is
//! none of them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{BpfProgram, apply_filter, compile_from_json};
use serde_json::{Value, json};

use crate::site::{Folder, Site, gets_io_uring, program};
use crate::support::common::{client, is_root, keyed, until};

/// An ordinary user's number, by custom "nobody".
const NOBODY: u32 = 65_534;

/// The system calls that `contrib/seccomp.json` allows, and the error number of all others.
fn profile() -> (Vec<String>, u64) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/seccomp.json");
    let profile: Value = serde_json::from_str(&fs::read_to_string(path).expect("it is there")).expect("JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let groups = profile["syscalls"].as_array().expect("groups of system calls");
    assert!(groups.iter().all(|group| group["action"] == "SCMP_ACT_ALLOW"));
    let names = groups.iter().flat_map(|group| group["names"].as_array().expect("names"));
    let names = names.map(|name| name.as_str().expect("a name").to_owned()).collect();
    (names, profile["defaultErrnoRet"].as_u64().expect("an error number"))
}

/// What the kernel is given to allow these calls, and answer others with an error.
fn filter(names: &[String], errno: u64) -> Option<BpfProgram> {
    let calls: Vec<Value> = names.iter().map(|name| json!({ "syscall": name })).collect();
    let filter = json!({ "one": {
        "mismatch_action": { "errno": errno }, "match_action": "allow", "filter": calls
    }});
    let machine = std::env::consts::ARCH.try_into().expect("a machine that filters are known for");
    let programs = compile_from_json(filter.to_string().as_bytes(), machine).ok();
    programs.map(|mut programs| programs.remove("one").expect("it was asked for"))
}

/// The filter of the profile, without what begins with `without`.
fn filter_without(without: Option<&str>) -> BpfProgram {
    let (mut names, errno) = profile();
    // Runtimes pass over the calls that a machine does not have.
    let all = names.len();
    names.retain(|name| filter(std::slice::from_ref(name), errno).is_some());
    assert!(names.len() == all || !cfg!(target_arch = "x86_64"), "a name that is none: {names:?}");
    names.retain(|name| without.is_none_or(|without| !name.starts_with(without)));
    filter(&names, errno).expect("known names")
}

/// A command as an ordinary user, if it can be told so.
fn ordinary(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HTTP_")) {
        command.env_remove(name);
    }
    if is_root() {
        // What rings take may count as locked memory. For this process, too: the other one may not raise it any more.
        let none = Rlimit { current: None, maximum: None };
        let _ = setrlimit(Resource::Memlock, none);
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The server at `path`, confined, and as an ordinary user if it can be told so.
fn confined(path: &str, filter: BpfProgram, arguments: &[&str]) -> Command {
    let mut command = ordinary(path);
    // SAFETY: between fork and exec only two system calls are made: the filter is compiled already.
    unsafe { command.pre_exec(move || apply_filter(&filter).map_err(|_| std::io::Error::last_os_error())) };
    // A limit that any machine's descriptors suffice for: nothing but the ring is to be said.
    command.args(["--max-connections", "100", "--workers", "2", "--pin"]).args(arguments);
    command
}

/// A copy of the program that an ordinary user may run.
fn copy(folder: &Folder) -> String {
    let path = folder.path("http-server");
    fs::copy(program(&[]).get_program(), &path).expect("the example is built");
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

fn exchange(site: &Site, request: &[u8]) -> Vec<u8> {
    let mut stream = client(site.address());
    stream.write_all(request).expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    answer
}

/// A short answer, a short file, a long one, and a body there and back.
fn serves(site: &Site, len: usize) {
    let get = |path: &str| {
        exchange(site, format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
    };
    assert!(get("/plaintext").starts_with(b"HTTP/1.1 200 "));
    for _ in 0..2 {
        assert!(get("/static/short.txt").ends_with(b"\r\n\r\nshort"), "{}", site.said());
    }
    let long = get("/static/long.bin");
    assert!(long.len() > len, "{} bytes: {}", long.len(), site.said());
    assert_eq!(keyed::differs(len as u64, 0, &long[long.len() - len..]), None);
    let post = b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    assert!(exchange(site, post).ends_with(b"\r\n\r\nhello"));
}

/// A folder with files to serve, and the program; `None`, and a line that says so, where an ordinary user sees neither.
fn folder() -> Option<(Folder, String, usize)> {
    let (folder, len) = (Folder::new(), 3 << 20);
    fs::create_dir(folder.path("root")).expect("a folder that is new");
    folder.file("root/long.bin", len);
    fs::write(folder.path("root/short.txt"), "short").expect("there is room");
    let program = copy(&folder);
    let may = ordinary("test").args(["-x", &program]).status().expect("every system has it");
    if !may.success() {
        eprintln!("skipped: an ordinary user may not run {program}: set TMPDIR to a folder for everybody");
    }
    may.success().then_some((folder, program, len))
}

#[test]
fn the_profile_allows_what_it_takes_on_both_rings() {
    let Some((folder, program, len)) = folder() else { return };
    let both = gets_io_uring(ordinary(&program));
    let rows = [("uring", "io_uring"), ("poll", "epoll"), ("auto", "io_uring")];
    for (ring, name) in rows.into_iter().filter(|(_, name)| both || *name == "epoll") {
        let arguments = ["--ring", ring, "--root", &folder.path("root")];
        let site = Site::run(confined(&program, filter_without(None), &arguments), &["127.0.0.1:0"]);
        serves(&site, len);
        until("it tells what it runs on", || site.said().contains(&format!("2 workers on {name}")));
        site.stop();
    }
}

#[test]
fn without_io_uring_in_the_profile_epoll_runs_and_says_why() {
    let Some((folder, program, len)) = folder() else { return };
    let arguments = ["--ring", "auto", "--root", &folder.path("root")];
    let filter = filter_without(Some("io_uring_"));
    let site = Site::run(confined(&program, filter, &arguments), &["127.0.0.1:0"]);
    serves(&site, len);
    until("it tells what it runs on", || site.said().contains("2 workers on epoll"));
    let said = site.said();
    let warned: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    let [why] = warned[..] else { panic!("one line: {said}") };
    for word in ["epoll instead of io_uring", "seccomp", "io_uring_setup"] {
        assert!(why.contains(word), "{why}");
    }
    assert_eq!(said.matches("instead of io_uring").count(), 1, "{said}");
    site.stop();
}

#[test]
fn io_uring_that_is_demanded_and_refused_is_one_sentence() {
    let Some((_folder, program, _)) = folder() else { return };
    let arguments = ["--ring", "uring", "--listen", "127.0.0.1:0"];
    let done = confined(&program, filter_without(Some("io_uring_")), &arguments).output().expect("it runs");
    let said = String::from_utf8(done.stderr).expect("text");
    assert_eq!((said.lines().count(), done.status.code()), (1, Some(1)), "{said}");
    assert!(said.starts_with("error: a seccomp filter") && said.contains("io_uring_setup"), "{said}");
}

/// Switches for 3 a.m.: the environment decides what nobody chose, and says so if it cannot be.
#[test]
fn the_environment_chooses_the_ring() {
    let run = |name: &str, value: &str| {
        let mut command = program(&["--workers", "1"]);
        command.env_remove("CAMPANILE_RING").env_remove("CAMPANILE_WITHOUT").env(name, value);
        command
    };
    let site = Site::run(run("CAMPANILE_RING", "poll"), &["127.0.0.1:0"]);
    until("it tells what it runs on", || site.said().contains("1 worker on epoll"));
    site.stop();
    let site = Site::run(run("CAMPANILE_WITHOUT", "direct, bundle"), &["127.0.0.1:0"]);
    assert!(!exchange(&site, b"GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").is_empty());
    site.stop();
    for (name, value, sentence) in [
        ("CAMPANILE_RING", "kqueue", "error: CAMPANILE_RING: `kqueue` is none of auto, uring, poll; "),
        ("CAMPANILE_WITHOUT", "speed", "error: CAMPANILE_WITHOUT: `speed` is none of defer_taskrun, "),
    ] {
        let done = run(name, value).args(["--listen", "127.0.0.1:0"]).output().expect("it runs");
        let said = String::from_utf8(done.stderr).expect("text");
        assert_eq!((said.lines().count(), done.status.code()), (1, Some(1)), "{said}");
        assert!(said.starts_with(sentence), "{said}");
    }
}
