#![allow(unsafe_code)]
//! The kernel ring: io_uring.
//!
//! # Who owns what
//!
//! The ring owns the two queues shared with the kernel. An entry pushed into the submission queue is the kernel's,
//! also while an `enter` that was to hand it over has failed: it stays in the queue and goes with the next one. What
//! does not fit into the queue waits in `backlog`, in order. The memory that entries point to belongs to
//! [`Memory`]'s tables, which outlive the ring.
//!
//! # Obligations
//!
//! * The ring is made, used and dropped on one thread (SINGLE_ISSUER, DEFER_TASKRUN).
//! * Entries point only into `Memory`, as [`Submission::prepare`] writes them; so pushing one is sound as long as the
//!   same `Memory` is passed every time and lives until the ring has drained, which is the `Ring` contract.
//! * `submitter` borrows from the leaked `ring`, so it goes first.

use std::io;
use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, Submitter, opcode, squeue, types};

use crate::address::Address;
use crate::buffer_ring::GROUP;
use crate::fs::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::token::{Generation, Kind, Token};
use crate::udp::UdpOptions;
use crate::wake::Kick;

use super::backlog::{Backlog, Places};
use super::plain::{self, EventKick};
use super::{Abilities, LONGEST_WAIT, Ring, Side};

/// io_uring, set up for one worker thread.
pub(crate) struct KernelRing {
    queue: Queue,
    abilities: Abilities,
    /// Options are set by operations (Linux 6.7), not by plain calls.
    sets_options: bool,
    flavour: Flavour,
    backlog: Backlog<squeue::Entry>,
    /// Completions that came while the ring waited for one of its own.
    early: Vec<Completion>,
    in_flight: u64,
    eventfd: Option<EventKick>,
    /// Signalled by the kernel when something completes: for who waits elsewhere.
    announcer: Option<OwnedFd>,
    /// Microseconds for which completions are gathered; zero for none, and where the kernel cannot.
    gather_micros: u32,
    /// Why the kernel does not poll its network cards, if it was to.
    napi_refused: Option<io::Error>,
}

/// The way into the kernel: the submission queue, and the call that hands it over.
struct Queue {
    submitter: ManuallyDrop<Submitter<'static>>,
    ring: *mut IoUring,
}

/// Which of the set-up flags the kernel took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// All of them: Linux 6.6.
    Full,
    /// Without NO_SQARRAY: Linux 6.1.
    Deferred,
    /// Without DEFER_TASKRUN and SINGLE_ISSUER: Linux 5.19.
    Cooperative,
}

/// What a ring is asked to hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) queue_entries: u32,
    /// Entries of the table of direct descriptors; none if zero.
    pub(crate) table: u32,
    pub(crate) abilities: Abilities,
    /// The set-up flags to try first.
    pub(crate) flavour: Flavour,
    /// The kernel is to say in memory when it has work for this ring: for who waits elsewhere, or not at all.
    pub(crate) tells: bool,
    pub(crate) waits: Waits,
}

/// How a ring waits beyond what it is told: see the fields of [`Config`](crate::Config) of these names.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waits {
    pub(crate) min_wait: Duration,
    pub(crate) napi_busy_poll: Duration,
}

/// So many completions are worth a turn at once, however long others might be gathered.
const GATHERED: u32 = 64;

/// The fewest entries a ring is still worth having with.
const LEAST_ENTRIES: u32 = 32;

/// A ring that was closed counts against the limit of locked memory until the kernel has taken it apart, some
/// milliseconds later: the probe's does, and those of a server that was stopped just now. So a refusal is believed
/// only when it has lasted for so many naps.
const NAPS: u32 = 20;
const NAP: Duration = Duration::from_millis(5);

impl KernelRing {
    /// A ring for the calling thread. Steps down flag by flag while the kernel refuses one, and entry by entry while
    /// it refuses the memory; what it ended with is in [`flavour`](Self::flavour) and
    /// [`queue_entries`](Self::queue_entries).
    ///
    /// # Errors
    /// The last refusal, when there was nothing left to step down to.
    pub(crate) fn new(shape: Shape, memory: &Memory) -> io::Result<KernelRing> {
        let (mut entries, mut naps) = (shape.queue_entries, NAPS);
        loop {
            match KernelRing::with_entries(entries, shape, memory) {
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => match naps {
                    1.. => {
                        naps -= 1;
                        std::thread::sleep(NAP);
                    }
                    0 if entries > LEAST_ENTRIES => (entries, naps) = (entries / 2, NAPS),
                    0 => return Err(error),
                },
                made => return made,
            }
        }
    }

    fn with_entries(entries: u32, shape: Shape, memory: &Memory) -> io::Result<KernelRing> {
        let mut flavour = shape.flavour;
        let ring = loop {
            match build(entries, flavour, shape.tells) {
                Ok(ring) => break ring,
                Err(error) => match (error.raw_os_error(), flavour) {
                    (Some(libc::EINVAL), Flavour::Full) => flavour = Flavour::Deferred,
                    (Some(libc::EINVAL), Flavour::Deferred) => flavour = Flavour::Cooperative,
                    _ => return Err(error),
                },
            }
        };
        let ring = Box::into_raw(Box::new(ring));
        // SAFETY: just leaked, so valid until `drop` takes it back; only ever borrowed shared.
        let submitter = unsafe { &*ring }.submitter();
        let Abilities { set_option, direct, .. } = shape.abilities;
        let mut this = KernelRing {
            queue: Queue { submitter: ManuallyDrop::new(submitter), ring },
            // Plain descriptors can be told by a plain call.
            abilities: Abilities { set_option: set_option || !direct, ..shape.abilities },
            sets_options: set_option,
            flavour,
            backlog: Backlog::default(),
            early: Vec::new(),
            in_flight: 0,
            eventfd: None,
            announcer: None,
            gather_micros: 0,
            napi_refused: None,
        };
        this.register(shape, memory)?;
        Ok(this)
    }

    fn register(&mut self, shape: Shape, memory: &Memory) -> io::Result<()> {
        // Saves looking the descriptor up at every enter. A task may register sixteen; more is no failure.
        let _ = self.queue.submitter.register_ring_fd();
        if shape.abilities.direct {
            self.queue.submitter.register_files_sparse(shape.table)?;
        }
        let buffers = &memory.buffers;
        let Waits { min_wait, napi_busy_poll } = shape.waits;
        if self.queue.io().params().is_feature_min_timeout() {
            self.gather_micros = micros(min_wait);
        }
        if !napi_busy_poll.is_zero() {
            let mut napi = types::Napi::new().set_busy_poll_timeout(micros(napi_busy_poll));
            self.napi_refused = self.queue.submitter.register_napi(&mut napi).err();
        }
        // SAFETY: the entries lie in `memory`, which outlives the ring.
        unsafe {
            self.queue.submitter.register_buf_ring_with_flags(
                buffers.entries_address(),
                buffers.count(),
                GROUP,
                0,
            )
        }
    }

    pub(crate) fn flavour(&self) -> Flavour {
        self.flavour
    }

    pub(crate) fn queue_entries(&self) -> u32 {
        self.queue.io().params().sq_entries()
    }

    /// Whether completions are gathered, as they were to be.
    pub(crate) fn gathers(&self) -> bool {
        self.gather_micros > 0
    }

    pub(crate) fn napi_refused(&self) -> Option<&io::Error> {
        self.napi_refused.as_ref()
    }

    fn collect(&mut self, batch: &mut Vec<Completion>) {
        // SAFETY: valid until `drop`, and only ever borrowed shared; the borrow is not tied to `self`, which counts.
        let io = unsafe { &*self.queue.ring };
        // SAFETY: no other `CompletionQueue` is alive: each lives for one call of this function.
        let queue = unsafe { io.completion_shared() };
        for cqe in queue {
            let completion = Completion::from_cqe(&cqe);
            if !completion.more && completion.token.kind() != Some(Kind::Cancel) {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            batch.push(completion);
        }
    }

    /// Submits one operation and waits for it. Others' completions are kept for the next `wait`.
    fn perform_entry(&mut self, entry: &squeue::Entry) -> io::Result<u32> {
        self.in_flight += 1;
        self.backlog.submit(entry.clone(), &mut self.queue);
        let own = Token::new(Kind::Setup, Generation::default(), 0);
        loop {
            self.backlog.advance(&mut self.queue);
            // With a backlog the own entry may be in it: then what is queued goes first, and is not waited for.
            self.queue.enter(u32::from(self.backlog.is_empty()), None, 0)?;
            let mut early = std::mem::take(&mut self.early);
            self.collect(&mut early);
            let found = early.iter().position(|completion| completion.token == own);
            let completion = found.map(|at| early.remove(at));
            self.early = early;
            match completion.map(|completion| completion.outcome) {
                None => {}
                Some(Outcome::Count(n)) => return Ok(n),
                Some(outcome) => return Err(outcome.to_error()),
            }
        }
    }

    /// A descriptor of the process for what the table has at `index`.
    fn install(&mut self, index: u32) -> io::Result<OwnedFd> {
        let own = Token::new(Kind::Setup, Generation::default(), 0);
        let entry = opcode::FixedFdInstall::new(types::Fixed(index), 0).build().user_data(own.raw());
        let fd = self.perform_entry(&entry)?;
        // SAFETY: the kernel made this descriptor just now, for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }
}

impl Queue {
    fn io(&self) -> &IoUring {
        // SAFETY: valid until `drop`, and only ever borrowed shared.
        unsafe { &*self.ring }
    }

    /// Hands over what is queued and waits for `want` completions; within `timeout` also for more, so many microseconds
    /// long.
    fn enter(&mut self, want: u32, timeout: Option<Duration>, gather: u32) -> io::Result<()> {
        // SAFETY: as in `push`.
        let queued = unsafe { self.io().submission_shared() }.len() as u32;
        let events = EnterFlags::GETEVENTS.bits();
        let entered = match timeout {
            Some(timeout) => {
                let time = types::Timespec::from(timeout);
                let arg = types::SubmitArgs::new().timespec(&time).min_wait_usec(gather);
                let flags = events | EnterFlags::EXT_ARG.bits();
                // SAFETY: `arg` and the time it points to live through the call, and the flag says what `arg` is.
                unsafe { self.submitter.enter(queued, want, flags, Some(&arg)) }
            }
            // SAFETY: no argument.
            None => unsafe { self.submitter.enter::<libc::sigset_t>(queued, want, events, None) },
        };
        match entered {
            Ok(_) => Ok(()),
            // What was not taken stays in the queue, and goes with the next call. EBUSY: the completion queue is full,
            // and is about to be emptied.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl Places<squeue::Entry> for Queue {
    fn push(&mut self, entry: squeue::Entry) -> Result<(), squeue::Entry> {
        // SAFETY: no other `SubmissionQueue` is alive: each lives for one statement, on this thread.
        let mut queue = unsafe { self.io().submission_shared() };
        // SAFETY: what the entry points to stays valid until its final completion: the contract above.
        unsafe { queue.push(&entry) }.map_err(|_| entry)
    }

    fn hand_over(&mut self) {
        // What goes wrong goes wrong again in the next `wait`, which tells.
        let _ = self.enter(0, Some(Duration::ZERO), 0);
    }
}

fn micros(length: Duration) -> u32 {
    u32::try_from(length.as_micros()).unwrap_or(u32::MAX)
}

fn build(entries: u32, flavour: Flavour, tells: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        // One bad entry does not hold back the rest of the batch.
        .setup_submit_all()
        // Take what the kernel allows rather than fail.
        .setup_clamp()
        // A turn completes more than it submits: multishot operations post many times.
        .setup_cqsize(entries * 4);
    match flavour {
        // The kernel works for this ring only when this thread asks for completions, in the same call that waits: the
        // largest gain there is (10.5 to 6.5 us per request). It needs the promise that one thread submits.
        Flavour::Full | Flavour::Deferred => builder.setup_single_issuer().setup_defer_taskrun(),
        // Next best: no interrupt of a running thread to do that work.
        Flavour::Cooperative => builder.setup_coop_taskrun(),
    };
    if flavour == Flavour::Full {
        // One indirection less; entries are used in order anyway.
        builder.setup_no_sqarray();
    }
    if tells {
        // Without it, work that one `enter` leaves for the next would go unnoticed: it takes twenty pieces at a time.
        builder.setup_taskrun_flag();
    }
    // No SQPOLL: it takes a core of its own, and is 1.5 to 2 times worse without one.
    builder.build(entries)
}

impl Ring for KernelRing {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn submit(&mut self, token: Token, submission: Submission, memory: &Memory) {
        if let Submission::SetOption { .. } = submission
            && !self.sets_options
            && let Some(done) = plain::at_once(submission, memory)
        {
            return self.early.push(Completion {
                token,
                outcome: Outcome::of_call(done),
                more: false,
                buffer: None,
            });
        }
        let entry = submission.prepare(token, memory);
        if token.kind() != Some(Kind::Cancel) {
            self.in_flight += 1;
        }
        self.backlog.submit(entry, &mut self.queue);
    }

    fn wait(&mut self, timeout: Option<Duration>, _: &Memory, batch: &mut Vec<Completion>) -> io::Result<()> {
        batch.append(&mut self.early);
        self.backlog.advance(&mut self.queue);
        let at_once = !batch.is_empty() || !self.backlog.is_empty() || timeout == Some(Duration::ZERO);
        if at_once {
            self.queue.enter(0, None, 0)?;
        } else if self.gather_micros == 0 {
            self.queue.enter(1, timeout, 0)?;
        } else {
            // The kernel gathers first, and looks at the time that is left afterwards; without a time it would return
            // then, though nothing has come.
            let timeout = timeout.unwrap_or(LONGEST_WAIT);
            self.queue.enter(GATHERED, Some(timeout), self.gather_micros.min(micros(timeout)))?;
        }
        self.collect(batch);
        Ok(())
    }

    fn perform(&mut self, submission: Submission, memory: &Memory) -> io::Result<u32> {
        let own = Token::new(Kind::Setup, Generation::default(), 0);
        self.perform_entry(&submission.prepare(own, memory))
    }

    fn kick(&mut self, memory: &Memory, token: Token) -> io::Result<Box<dyn Kick>> {
        let eventfd = EventKick::new()?;
        self.submit(token, eventfd.watch(), memory);
        self.eventfd = Some(eventfd.clone());
        Ok(Box::new(eventfd))
    }

    fn kicked(&mut self, completion: &Completion, memory: &Memory) {
        if let Some(watch) = self.eventfd.as_ref().and_then(|eventfd| eventfd.kicked(completion)) {
            self.submit(completion.token, watch, memory);
        }
    }

    fn address(&mut self, descriptor: Descriptor, side: Side) -> io::Result<Address> {
        let installed;
        let fd = match descriptor {
            Descriptor::Plain(fd) => fd,
            Descriptor::Direct(index) => {
                installed = self.install(index)?;
                installed.as_raw_fd()
            }
        };
        plain::address(fd, side)
    }

    fn bind_datagrams(&mut self, address: SocketAddr, options: &UdpOptions) -> io::Result<Descriptor> {
        Ok(Descriptor::Plain(plain::bind_datagrams(address, options)?))
    }

    fn stats_at_once(&self, file: RawFd) -> bool {
        plain::stats_at_once(file)
    }

    fn has_offsets(&self, file: RawFd) -> bool {
        plain::has_offsets(file)
    }

    fn stat_now(&self, file: RawFd) -> io::Result<FileStat> {
        plain::stat_now(file)
    }

    fn announce(&mut self) -> io::Result<OwnedFd> {
        // The ring's own descriptor never wakes a sleeping epoll with DEFER_TASKRUN (Linux 6.18); this one does.
        let eventfd = plain::eventfd()?;
        self.queue.submitter.register_eventfd(eventfd.as_raw_fd())?;
        let watched = eventfd.try_clone()?;
        self.announcer = Some(eventfd);
        Ok(watched)
    }

    fn hush(&mut self, hushed: bool) {
        // SAFETY: as in `collect`.
        let queue = unsafe { self.queue.io().completion_shared() };
        if hushed {
            queue.disable_eventfd();
        } else {
            queue.enable_eventfd();
        }
    }

    fn hand_over(&mut self) {
        self.backlog.advance(&mut self.queue);
        self.queue.hand_over();
    }

    fn has_work(&self) -> bool {
        // SAFETY: as in `push`.
        let queue = unsafe { self.queue.io().submission_shared() };
        // SAFETY: as above.
        let completed = unsafe { self.queue.io().completion_shared() };
        let has_more = !completed.is_empty() || !self.early.is_empty() || !self.backlog.is_empty();
        has_more || !queue.is_empty() || queue.taskrun()
    }

    fn tells(&self) -> bool {
        true
    }

    fn backlog(&self) -> usize {
        self.backlog.len()
    }

    fn in_flight(&self) -> u64 {
        // What came early is still to be told.
        self.in_flight + self.early.len() as u64
    }
}

impl Drop for KernelRing {
    fn drop(&mut self) {
        // The registration is the thread's, and would keep the ring alive for as long as that lives.
        let _ = self.queue.submitter.unregister_ring_fd();
        // SAFETY: leaked in `new`, taken back once. `submitter`, which borrows from it, has no destructor and is not
        // used any more.
        drop(unsafe { Box::from_raw(self.queue.ring) });
    }
}

#[cfg(test)]
mod tests;
