//! A hundred thousand tasks that sleep on one worker: what they take, in a process of their own. That they wake at
//! their tick is shown on a virtual clock (`worker/scenes/streams.rs`).

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use campanile_core::{Server, WorkerId, sleep, spawn};
use support::{counted, process, until};

const TASKS: u64 = 100_000;

/// What each may take: measured are some 260 bytes, with its own small future.
const MOST: u64 = 512;

#[test]
fn a_task_that_sleeps_takes_little() {
    static WOKEN: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let before = process::resident_kib(pid, "RssAnon");
    let run = async |_: WorkerId| {
        for _ in 0..TASKS {
            drop(spawn(async {
                sleep(Duration::from_secs(3600)).await;
                WOKEN.fetch_add(1, Ordering::Relaxed);
            }));
        }
    };
    let server = Server::new().workers(1).on_start(run).run().expect("nothing is listened on");
    until("all of them sleep", || counted(&server).sleeps == TASKS);
    let each = (process::resident_kib(pid, "RssAnon").saturating_sub(before) << 10) / TASKS;
    // The worker's own memory is in it.
    assert!(each <= MOST, "{each} bytes for each task");
    let turns = counted(&server).turns;
    for _ in 0..10 {
        assert_eq!(counted(&server).tasks, TASKS);
    }
    // One turn for each question, and a few for the start.
    assert!(counted(&server).turns - turns <= 40, "{} turns after {turns}", counted(&server).turns);
    server.stop();
    server.wait().expect("it ends well");
    assert_eq!(WOKEN.load(Ordering::Relaxed), 0);
}
