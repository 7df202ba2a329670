//! A worker by hand: the very worker that runs on io_uring, over a ring that has no kernel, turned by who measures it.
//!
//! For benchmarks and tests only, by the feature `by-hand`: not a part of what this crate promises.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{BadConfig, Config};
use crate::counters::Counters;
use crate::ring::by_hand::HandRing;
use crate::server::Serves;
use crate::time::{Clock, Time};

use super::{Factory, Listening, Worker, memory_for};

/// What a turn takes, on the worker's clock: so what happens does not depend on how fast the machine is.
const TURN: Duration = Duration::from_micros(20);

/// The calendar when it begins: the first of January 2100, later than any file was changed.
const BEGINNING: Duration = Duration::from_secs(4_102_444_800);

/// A worker whose completions are fed by hand.
///
/// ```
/// use campanile_core::{ByHand, Config, Flow, Input, Output};
///
/// let echo = |input: &mut Input<'_>, output: &mut Output<'_>| {
///     output.write(input.consume_all()).expect("no longer than the room");
///     Flow::More(1)
/// };
/// let mut worker = ByHand::new(Config::default(), move || echo)?;
/// worker.hear(true);
/// let client = worker.connect();
/// worker.deliver(client, b"hello");
/// worker.turn();
/// assert_eq!(worker.heard(client), b"hello");
/// # Ok::<(), campanile_core::BadConfig>(())
/// ```
pub struct ByHand {
    worker: Worker<HandRing>,
}

impl ByHand {
    /// A worker with these bounds, each of whose connections is run by `serve`.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new<F: Serves<Kind> + 'static, Kind>(config: Config, serve: F) -> Result<ByHand, BadConfig> {
        let (config, serve) = (config.checked()?, Arc::new(serve));
        let (memory, clock) = (memory_for(&config), Box::new(Turns(Duration::ZERO)));
        let factory: Factory = Box::new(move |_| serve.service());
        let worker = Worker::new(HandRing::new(), memory, config, clock, || factory);
        let mut worker = worker.expect("nothing is asked of a kernel");
        worker.listen(Listening::at(0, crate::operation::Descriptor::Direct(0), 1));
        Ok(ByHand { worker })
    }

    /// Somebody connects, and is accepted: takes a turn. Returns the number of that client.
    pub fn connect(&mut self) -> u32 {
        let client = self.worker.ring.connect();
        self.turn();
        client
    }

    /// Bytes of a client's arrive, for the next turn: copied into the worker's receive buffers, as by a kernel.
    ///
    /// # Panics
    /// When the worker does not read from that client now, or has too few buffers.
    pub fn deliver(&mut self, client: u32, bytes: &[u8]) {
        self.worker.ring.deliver(client, bytes, &self.worker.memory);
    }

    /// One turn: takes what completed to its connections, and queues what these answer.
    // A function of its own, so that who counts can tell it from what feeds it.
    #[inline(never)]
    pub fn turn(&mut self) {
        let goes_on = self.worker.turn().expect("nothing breaks without a kernel");
        assert!(goes_on, "nobody has stopped it");
    }

    /// Bytes that were sent so far, to all clients.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.worker.ring.sent()
    }

    /// Has it keep what is sent from now on, for [`heard`](Self::heard); or no more.
    pub fn hear(&mut self, is_heard: bool) {
        self.worker.ring.hear(is_heard);
    }

    /// What was kept of what a client was sent, since it was last asked for.
    pub fn heard(&mut self, client: u32) -> Vec<u8> {
        self.worker.ring.heard(client)
    }

    /// What the worker counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.worker.counters()
    }
}

impl fmt::Debug for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByHand").field("counters", &self.worker.counters).finish_non_exhaustive()
    }
}

/// A clock that goes on by a turn whenever it is looked at.
struct Turns(Duration);

impl Clock for Turns {
    fn now(&mut self) -> Time {
        self.0 += TURN;
        Time::from_start(self.0)
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::UNIX_EPOCH + BEGINNING + self.0
    }
}
