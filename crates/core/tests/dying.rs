#![allow(unsafe_code)] // Takes a system call away from one thread.
//! Dying: a worker that cannot go on takes the server with it, and whoever waits for that hears why.

mod support;

use std::io::Read;

use campanile_core::{Context, Event, Flow, ServeError, Server};
use support::{Told, client, echo, round, tcp, until};

/// Answers io_uring_enter(2) with ENXIO, for the calling thread, for good: as if its ring had broken.
fn break_the_ring() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let jump = libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k: libc::SYS_io_uring_enter as u32,
    };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number),
        jump,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENXIO as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the filter and its program live through the call, which copies them.
    assert_eq!(unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &raw const filter) }, 0);
}

#[test]
fn a_broken_ring_ends_the_server_and_is_told() {
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(|| {
        Told(|event, cx: &mut Context<'_>| {
            if matches!(event, Event::Input) && cx.input.starts_with(b"break") {
                break_the_ring();
            }
            echo(&mut cx.input, &mut cx.output);
            Flow::More(1)
        })
    });
    let server = server.expect("a free port of loopback");
    // Some for each worker, whichever the kernel gives them to.
    let mut clients: Vec<_> = (0..64).map(|_| client(tcp(&server))).collect();
    for client in &mut clients {
        assert_eq!(round(client, b"hello").unwrap(), b"hello");
    }
    let counters = server.counters();
    assert!(counters.iter().all(|worker| worker.connections > 0), "each has some: {counters:?}");
    std::io::Write::write_all(&mut clients[0], b"break").expect("it reads");
    // Nobody has to wait for the server for the others to end.
    for client in &mut clients[1..] {
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
    until("none of them counts any more", || server.counters().is_empty());
    let error = server.wait().expect_err("it did not end by itself");
    assert!(
        matches!(&error, ServeError::RingBroke(why) if why.raw_os_error() == Some(libc::ENXIO)),
        "{error}"
    );
    assert!(error.to_string().starts_with("a worker's ring broke: "), "{error}");
}

#[test]
fn state_that_cannot_be_made_is_told_with_its_reason() {
    for broken in [0, 1] {
        let server = Server::new().listen("127.0.0.1:0").workers(2).serve_with(
            move |worker| assert_ne!(worker.index(), broken, "there is no state for it"),
            |_, _| echo,
        );
        let error = server.expect_err("a worker cannot start");
        assert!(matches!(error, ServeError::WorkerPanicked(_)), "{error}");
        assert!(
            error.to_string().contains("a worker panicked: ") && error.to_string().contains("no state"),
            "{error}"
        );
    }
}
