//! The control: everything of a connection besides its bytes, and what can be asked of its worker.

use std::any::{Any, TypeId};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::address::Address;
use crate::counters::Verdict;
use crate::desk::{Desk, Handle, InnerFrame};
use crate::errand::{Connect, Request, Ticket};
use crate::fs::{Change, Extent, File, FileStat, OpenFile};
use crate::guard::Panic;
use crate::operation::Descriptor;
use crate::ring::{Ring, Side};
use crate::service::Service;
use crate::time::Time;
use crate::timeout::Timeout;
use crate::wake::{Wakee, Waker};

/// The time, a timer, wakers, addresses, and what a service can ask its worker for. Answers come as
/// [`Event::Answer`](crate::Event::Answer).
pub struct Control<'a> {
    timer: &'a mut Option<Time>,
    scope: Scope<'a>,
}

impl<'a> Control<'a> {
    pub(crate) fn new(timer: &'a mut Option<Time>, scope: Scope<'a>) -> Control<'a> {
        Control { timer, scope }
    }

    /// The control of an inner service, with a timer of its own.
    pub(crate) fn nest<'b>(&'b mut self, timer: &'b mut Option<Time>) -> Control<'b> {
        Control { timer, scope: self.scope.reborrow() }
    }

    /// The time of this turn, on the worker's monotonic clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.scope.desk.now
    }

    /// The calendar time of this turn, right to a millisecond or so.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        self.scope.desk.wall()
    }

    /// Asks for [`Event::Timer`](crate::Event::Timer) at `at`, in place of what was asked for before. It never comes
    /// early, and late by a millisecond at most if the worker is not busy.
    pub fn set_timer(&mut self, at: Time) {
        *self.timer = Some(at);
    }

    /// Asks for [`Event::Timer`](crate::Event::Timer) after `delay`, in place of what was asked for before.
    pub fn set_timer_in(&mut self, delay: Duration) {
        self.set_timer(self.now() + delay);
    }

    /// Takes back what was asked for by [`set_timer`](Self::set_timer).
    pub fn clear_timer(&mut self) {
        *self.timer = None;
    }

    /// Puts another time in place of this one, which it returns: a layer and its inner service share the timer.
    pub(crate) fn replace_timer(&mut self, at: Option<Time>) -> Option<Time> {
        std::mem::replace(self.timer, at)
    }

    /// When [`Event::Timer`](crate::Event::Timer) will come.
    #[must_use]
    pub fn timer(&self) -> Option<Time> {
        *self.timer
    }

    /// A waker that any thread may use: it brings [`Event::Wake`](crate::Event::Wake), once for any number of calls in
    /// between. Harmless when the connection is over.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.scope.desk.waker(self.scope.handle)
    }

    /// The name of this connection, for other services of its worker.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.scope.handle
    }

    /// Brings [`Event::Wake`](crate::Event::Wake) to another connection of this worker. Harmless when that is over.
    pub fn wake(&mut self, other: Handle) {
        self.scope.desk.local.wake(Wakee::Connection(other));
    }

    /// A bounded channel to another service of this worker: see [`channel`](mod@crate::channel).
    #[must_use]
    pub fn channel(&self, capacity: usize) -> (crate::Sender, crate::Receiver) {
        crate::channel::channel(&self.scope.desk.local, capacity)
    }

    /// Opens a connection, on which `service` then runs just as on an accepted one.
    ///
    /// [`Answer::Connected`](crate::Answer::Connected) comes when it is open or has failed; a failure also brings
    /// [`Event::Closed`](crate::Event::Closed) with [`Reason::NotConnected`](crate::Reason::NotConnected) to `service`.
    pub fn connect(&mut self, to: Connect, service: impl Service + 'static) -> Ticket {
        self.ask(Request::Connect(to, Box::new(service)))
    }

    /// Opens a file, or makes one, without blocking the worker: [`Answer::Opened`](crate::Answer::Opened).
    pub fn open_file(&mut self, file: OpenFile) -> Ticket {
        self.ask(Request::Open(file))
    }

    /// Asks what the kernel knows of an open file: [`Answer::Stat`](crate::Answer::Stat).
    pub fn stat(&mut self, file: &File) -> Ticket {
        self.ask(Request::Stat(file.clone()))
    }

    /// What the kernel knows of an open file, at once: `None` unless its file system keeps that in memory (which is
    /// asked once per file). Then [`stat`](Self::stat) is to be asked, so that nobody waits for a server elsewhere.
    ///
    /// # Errors
    /// Within the `Some`, whatever the kernel says.
    #[must_use]
    pub fn stat_now(&self, file: &File) -> Option<io::Result<FileStat>> {
        file.stat_now(&*self.scope.ring)
    }

    /// Reads at most `len` bytes at `offset` into the worker's memory: [`Answer::Read`](crate::Answer::Read).
    ///
    /// At most [`Config::file_buffer_len`](crate::Config) bytes come in one answer; none means the file ends there.
    pub fn read_file(&mut self, file: &File, offset: u64, len: usize) -> Ticket {
        self.ask(Request::Read(file.clone(), offset, len))
    }

    /// Writes all of `bytes` at `offset`: [`Answer::Written`](crate::Answer::Written).
    ///
    /// The worker holds the bytes until the kernel is done with them. What the kernel takes in parts is written part by
    /// part, and answered once. A write that was asked for is carried out even if this connection ends meanwhile.
    /// Writes may overtake one another: what is to come later is asked for when what comes before was answered. That it
    /// was written says that others read it, not that it is on the disk: see [`sync_file`](Self::sync_file).
    pub fn write_file(&mut self, file: &File, offset: u64, bytes: Bytes) -> Ticket {
        self.ask(Request::Write(file.clone(), offset, bytes))
    }

    /// Has what was written to a file put onto the disk: [`Answer::Synced`](crate::Answer::Synced). With `data_only`
    /// only what it takes to read it again, and not its times, for instance (fdatasync(2)).
    ///
    /// It is about the writes that were answered before it is asked for. After an error it is not known what of them is
    /// on the disk, and asking again may succeed although some of it is lost (fsync(2)): they are to be written anew. A
    /// new file is found again only when its directory was synced too, which can be opened for that.
    pub fn sync_file(&mut self, file: &File, data_only: bool) -> Ticket {
        self.ask(Request::Sync(file.clone(), if data_only { Extent::Data } else { Extent::All }))
    }

    /// Removes, renames or makes something by its name, without blocking the worker:
    /// [`Answer::Changed`](crate::Answer::Changed).
    pub fn change_names(&mut self, change: Change) -> Ticket {
        self.ask(Request::Change(change))
    }

    fn ask(&mut self, request: Request) -> Ticket {
        self.scope.desk.ask(self.scope.handle, request)
    }

    /// The peer's address. Asked of the kernel at the first call, and never for those who do not ask.
    ///
    /// # Errors
    /// Whatever the kernel says, `ENOTCONN` for instance when the peer is gone already.
    pub fn peer_addr(&mut self) -> io::Result<Address> {
        self.scope.address(Side::Peer)
    }

    /// The address this end has. Asked of the kernel at the first call.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn local_addr(&mut self) -> io::Result<Address> {
        self.scope.address(Side::Local)
    }

    /// Writes down what a layer learned about this connection (the real client's address, the protocol TLS agreed
    /// on), for the services above it. One value per type.
    pub fn learn<T: Any>(&mut self, fact: T) {
        let facts = self.scope.facts.get_or_insert_default();
        facts.learned.retain(|(id, _)| *id != TypeId::of::<T>());
        facts.learned.push((TypeId::of::<T>(), Box::new(fact)));
    }

    /// What a layer below learned.
    #[must_use]
    pub fn learned<T: Any>(&self) -> Option<&T> {
        let learned = &self.scope.facts.as_ref()?.learned;
        learned.iter().find(|(id, _)| *id == TypeId::of::<T>())?.1.downcast_ref()
    }

    /// A value that all services of this worker share, made at the first call. No lock is needed: they all run on the
    /// worker's one thread.
    #[must_use]
    pub fn shared<T: Any + Default>(&mut self) -> Rc<T> {
        self.scope.desk.shared()
    }

    /// Whether the server was told to stop: new clients are better sent elsewhere. True even before this connection is
    /// told [`Event::Drain`](crate::Event::Drain).
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.scope.desk.is_draining()
    }

    /// Counts a request, in [`Counters::requests`](crate::Counters): an addition, no more.
    pub fn count_request(&mut self) {
        self.scope.desk.counters.requests += 1;
    }

    /// Counts what became of a request that was [counted](Self::count_request).
    pub fn count_answer(&mut self, verdict: Verdict) {
        self.scope.desk.counters.count_answer(verdict);
    }

    /// Counts a panic that was [caught](crate::guard) and answered for, in [`Counters::panicked`](crate::Counters), and
    /// logs what it said.
    pub fn report_panic(&mut self, panic: &Panic) {
        self.scope.report_panic(panic);
    }

    /// Says that the service inside of a layer waits for the rest of a frame, though the layer's own input does not
    /// show it.
    pub(crate) fn note_inner_frame(&mut self, frame: InnerFrame) {
        self.scope.desk.inner_frame = Some(frame);
    }

    /// Counts a deadline that a protocol's peer has missed; those of the core count themselves.
    pub fn count_timeout(&mut self, timeout: Timeout) {
        self.scope.report_timeout(timeout);
    }

    /// How much room a service is promised when it is called for input or for room, in bytes.
    #[must_use]
    pub fn promised_room(&self) -> usize {
        self.scope.desk.room
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("connection", &self.scope.handle)
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

/// What is known of a connection because somebody asked: most have none.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    peer: Option<Address>,
    local: Option<Address>,
    learned: Vec<(TypeId, Box<dyn Any>)>,
}

/// Everything of a context that is the same for all layers of a connection.
pub(crate) struct Scope<'a> {
    pub(crate) desk: &'a mut Desk,
    pub(crate) ring: &'a mut dyn Ring,
    pub(crate) facts: &'a mut Option<Box<Facts>>,
    pub(crate) handle: Handle,
    pub(crate) descriptor: Option<Descriptor>,
}

impl Scope<'_> {
    pub(crate) fn reborrow(&mut self) -> Scope<'_> {
        Scope {
            desk: self.desk,
            ring: self.ring,
            facts: self.facts,
            handle: self.handle,
            descriptor: self.descriptor,
        }
    }

    #[cold]
    pub(crate) fn report_panic(&mut self, panic: &Panic) {
        self.desk.counters.panicked += 1;
        tracing::error!("a service panicked while it served {}: {panic}", self.peer());
    }

    #[cold]
    pub(crate) fn report_timeout(&mut self, timeout: Timeout) {
        self.desk.counters.count_timeout(timeout);
        tracing::debug!("a deadline was missed by {}: {timeout:?}", self.peer());
    }

    /// Who is at the other end, in words for the log; only asked when somebody reads that.
    fn peer(&mut self) -> String {
        self.address(Side::Peer).map_or_else(|_| "somebody who is gone".into(), |peer| peer.to_string())
    }

    pub(crate) fn address(&mut self, side: Side) -> io::Result<Address> {
        let known = |facts: &Facts| match side {
            Side::Peer => facts.peer.clone(),
            Side::Local => facts.local.clone(),
        };
        if let Some(address) = self.facts.as_deref().and_then(known) {
            return Ok(address);
        }
        let descriptor = self.descriptor.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTCONN))?;
        let address = self.ring.address(descriptor, side)?;
        let facts = self.facts.get_or_insert_default();
        match side {
            Side::Peer => facts.peer = Some(address.clone()),
            Side::Local => facts.local = Some(address.clone()),
        }
        Ok(address)
    }
}
