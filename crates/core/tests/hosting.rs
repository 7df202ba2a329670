//! Futures of the host's: what they do between two turns of a worker, and after its last.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use campanile_core::{File, Flow, Hosted, Input, Output, Server, Turned, UdpSocket};

/// Whether the worker is to be called.
#[derive(Default)]
struct Called(AtomicBool);

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn close(_: &mut Input<'_>, _: &mut Output<'_>) -> Flow {
    Flow::Close
}

/// A hosted worker that has nothing to do, and what a task there has made for somebody else.
fn with<T: 'static>(make: impl AsyncFn() -> T + Send + Sync + 'static) -> (Hosted, Arc<Called>, T) {
    thread_local!(static MADE: RefCell<Option<Box<dyn std::any::Any>>> = const { RefCell::new(None) });
    let server = Server::new().listen("127.0.0.1:0").on_start(async move |_| {
        let made: Box<dyn std::any::Any> = Box::new(make().await);
        MADE.with(|place| place.replace(Some(made)));
    });
    let mut server = server.host(|| close).expect("a free port");
    let called = Arc::new(Called::default());
    server.set_waker(&Arc::clone(&called).into());
    let made = loop {
        let turned = server.turn().expect("a ring that works");
        if let (Some(made), Turned::Idle(_)) = (MADE.take(), turned) {
            break made;
        }
        std::thread::yield_now();
    };
    called.0.store(false, Ordering::Relaxed);
    (server, called, *made.downcast().expect("it is what was put in"))
}

fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_datagram_of_a_future_of_the_hosts_has_the_worker_called() {
    let bind = async || Rc::new(UdpSocket::bind("127.0.0.1:0").await.expect("a free port"));
    let (_server, called, socket) = with(bind);
    assert!(poll(socket.send_to("hello", socket.local_addr())).is_pending());
    assert!(called.0.load(Ordering::Relaxed), "nobody would send it");
}

/// How many descriptors of this process are of that file.
fn open(path: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("there is one");
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count()
}

#[test]
fn a_file_that_outlives_its_worker_is_closed_and_not_waited_for() {
    let path = std::env::current_exe().expect("it has one").canonicalize().expect("it is there");
    let file = path.clone();
    let (server, _, file) = with(async move || File::open(&file).await.expect("it is there"));
    assert_eq!(open(&path), 1);
    // One that was asked for in time, and is never begun, holds on to the file.
    let mut begun = Box::pin({
        let file = file.clone();
        async move { file.read_at(0, 1).await }
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(begun.as_mut().poll(&mut cx).is_pending());
    drop(server);
    assert!(begun.as_mut().poll(&mut cx).is_ready(), "it waits for nobody");
    assert!(poll(file.stat()).is_ready(), "it waits for nobody");
    drop((begun, file));
    assert_eq!(open(&path), 0);
}
