//! The pool: connections to one destination that are used again.
//!
//! ```text
//!              ┌── an idle one that is still good ──┐
//!   get ─ a place ─┤                                ├─► Pooled ── put_back ──► idle
//!              └── a new connection ────────────────┘      └─ dropped: closed, the place is free
//! ```
//!
//! Whoever uses a connection has one of [`PoolConfig::total`] places; without one it waits in line. An idle connection
//! has none, and there are never more idle ones than places that are free. The keeper, a task beside them, drops those
//! that are idle for too long, and those whose peer has ended or has said something that nobody asked for: the latter
//! wake it.

mod places;

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use campanile_core::{JoinHandle, Sleep, Time, now, sleep_until, spawn, timeout};

use crate::connect::{Dial, DialError};
use crate::stream::Stream;
use places::{Place, Places};

/// The bounds of a [`Pool`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Connections that are used or opened at a time; whoever wants one more waits for its turn. More than none; 256 by
    /// default.
    pub total: usize,
    /// Connections that are kept idle. 64 by default.
    pub idle: usize,
    /// How long a connection is kept idle: less than the other side keeps it; zero keeps none. 30 s by default.
    pub idle_time: Duration,
    /// How long to wait for a turn. 10 s by default.
    pub wait: Duration,
}

impl Default for PoolConfig {
    fn default() -> PoolConfig {
        let (idle_time, wait) = (Duration::from_secs(30), Duration::from_secs(10));
        PoolConfig { total: 256, idle: 64, idle_time, wait }
    }
}

/// Connections of one worker to one destination, kept for those who want one next. Clones share them.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use campanile::{Dial, Pool, PoolConfig};
///
/// let pool = Pool::new(Dial::to("localhost:6379")?, PoolConfig::default());
/// let mut redis = pool.get().await?;
/// redis.write(b"PING\r\n").await?;
/// assert_eq!(redis.read_line(64).await?.as_deref(), Some(&b"+PONG"[..]));
/// redis.put_back();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool(Rc<Shared>);

struct Shared {
    dial: Dial,
    config: PoolConfig,
    places: Rc<Places>,
    /// The one that was used last is used first, so that those beyond the need grow old.
    idle: RefCell<Vec<Idle>>,
    keeper: RefCell<Option<Keeper>>,
}

struct Idle {
    stream: Stream,
    until: Time,
}

/// The task that looks after idle connections; it ends with the pool.
struct Keeper {
    task: JoinHandle<()>,
    waker: Option<Waker>,
}

/// Why there is no connection from a [`Pool`].
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// All places were taken for as long as [`PoolConfig::wait`].
    Busy {
        /// Whereto.
        to: String,
        /// [`PoolConfig::total`].
        total: usize,
    },
    /// No new connection could be opened.
    Dial(DialError),
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Busy { to, total } => write!(
                f,
                "all {total} connections to {to} were in use for too long: raise PoolConfig::total, if {to} can do \
                 more at a time"
            ),
            PoolError::Dial(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PoolError {}

impl From<DialError> for PoolError {
    fn from(error: DialError) -> PoolError {
        PoolError::Dial(error)
    }
}

impl From<PoolError> for std::io::Error {
    fn from(error: PoolError) -> std::io::Error {
        match error {
            PoolError::Dial(error) => error.into(),
            error @ PoolError::Busy { .. } => {
                std::io::Error::new(std::io::ErrorKind::TimedOut, error.to_string())
            }
        }
    }
}

impl Pool {
    /// A pool without a connection.
    ///
    /// # Panics
    /// When [`PoolConfig::total`] is zero.
    #[must_use]
    pub fn new(dial: Dial, config: PoolConfig) -> Pool {
        assert!(config.total > 0, "PoolConfig::total is zero: nobody would ever get a connection");
        let places = Places::new(config.total);
        Pool(Rc::new(Shared { dial, config, places, idle: RefCell::default(), keeper: RefCell::default() }))
    }

    /// An idle connection, or a new one. Waits for its turn if all are in use.
    ///
    /// # Errors
    /// When no place was free for too long, or no connection can be opened.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn get(&self) -> Result<Pooled, PoolError> {
        let place = self.place().await?;
        match self.take_idle() {
            Some(stream) => Ok(self.lend(stream, place, true)),
            None => self.open(place).await,
        }
    }

    /// A new connection, even if others are idle: for what failed on one of those.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn get_new(&self) -> Result<Pooled, PoolError> {
        let place = self.place().await?;
        self.open(place).await
    }

    async fn place(&self) -> Result<Place, PoolError> {
        let Shared { dial, config, places, .. } = &*self.0;
        if let Some(place) = places.try_take() {
            return Ok(place);
        }
        let busy = |_| PoolError::Busy { to: dial.destination().to_string(), total: config.total };
        timeout(config.wait, places.take()).await.map_err(busy)
    }

    async fn open(&self, place: Place) -> Result<Pooled, PoolError> {
        // One that is idle gives way, if all there may be are there.
        self.limit_idle(self.0.places.free());
        let stream = self.0.dial.open().await?;
        Ok(self.lend(stream, place, false))
    }

    fn lend(&self, stream: Stream, place: Place, is_used: bool) -> Pooled {
        Pooled { stream: Some(stream), pool: self.clone(), place, is_used }
    }

    fn take_idle(&self) -> Option<Stream> {
        loop {
            let Idle { mut stream, until } = self.0.idle.borrow_mut().pop()?;
            let mut cx = Context::from_waker(Waker::noop());
            if until > now() && stream.poll_fill(&mut cx, 1).is_pending() {
                return Some(stream);
            }
        }
    }

    /// Drops the oldest of those that are idle, until there are `most`.
    fn limit_idle(&self, most: usize) {
        let mut idle = self.0.idle.borrow_mut();
        let beyond = idle.len().saturating_sub(most);
        let dropped: Vec<_> = idle.drain(..beyond).collect();
        drop(idle);
        drop(dropped);
    }

    fn put_back(&self, mut stream: Stream) {
        let Shared { config, idle, .. } = &*self.0;
        if config.idle == 0 || config.idle_time.is_zero() || !self.is_kept(&mut stream) {
            return;
        }
        self.limit_idle(config.idle - 1);
        idle.borrow_mut().push(Idle { stream, until: now() + config.idle_time });
    }

    /// Whether nothing has come that nobody asked for. What comes later wakes the keeper.
    fn is_kept(&self, stream: &mut Stream) -> bool {
        let mut keeper = self.0.keeper.borrow_mut();
        let keeper = keeper.get_or_insert_with(|| Keeper {
            task: spawn(keep(Rc::downgrade(&self.0))),
            // It looks at all of them when it is first polled, which is in the next turn.
            waker: None,
        });
        let waker = keeper.waker.as_ref().unwrap_or(Waker::noop());
        stream.poll_fill(&mut Context::from_waker(waker), 1).is_pending()
    }

    /// How many connections are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.0.idle.borrow().len()
    }

    /// How many are in use, or being opened.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.0.config.total - self.0.places.free()
    }

    /// Closes those that are idle: for a destination that has turned out to be gone.
    pub fn clear(&self) {
        self.limit_idle(0);
    }
}

/// Looks after the idle connections of a pool, until that is gone.
async fn keep(pool: Weak<Shared>) {
    let mut alarm: Option<Sleep> = None;
    poll_fn(|cx| {
        let Some(shared) = pool.upgrade() else { return Poll::Ready(()) };
        shared.look_after(&mut alarm, cx);
        Poll::Pending
    })
    .await;
}

impl Shared {
    /// Drops what is no good any more, and has the caller woken when that is next so.
    fn look_after(&self, alarm: &mut Option<Sleep>, cx: &mut Context<'_>) {
        if let Some(keeper) = &mut *self.keeper.borrow_mut() {
            keeper.waker = Some(cx.waker().clone());
        }
        loop {
            let now = now();
            let mut dropped = Vec::new();
            let mut idle = self.idle.borrow_mut();
            for mut one in std::mem::take(&mut *idle) {
                if one.until > now && one.stream.poll_fill(cx, 1).is_pending() {
                    idle.push(one);
                } else {
                    dropped.push(one);
                }
            }
            let next = idle.iter().map(|one| one.until).min();
            drop(idle);
            drop(dropped);
            // Without any it looks again after their time all the same: so putting one back sets no timer.
            let sleep = alarm.insert(sleep_until(next.unwrap_or(now + self.config.idle_time)));
            if Pin::new(sleep).poll(cx).is_pending() {
                return;
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.task.abort();
        }
    }
}

/// A connection of a [`Pool`]: a [`Stream`]. It is closed when it is dropped, unless it is [put back](Self::put_back).
pub struct Pooled {
    /// There until it is put back.
    stream: Option<Stream>,
    pool: Pool,
    place: Place,
    is_used: bool,
}

impl Pooled {
    /// Leaves the connection to whoever wants one next: all that was asked for was read, and what comes next on it is
    /// the answer to what is written next. If there is anything unread the connection is closed.
    pub fn put_back(mut self) {
        if let Some(stream) = self.stream.take() {
            self.pool.put_back(stream);
        }
    }

    /// Whether it was used before; the other side may then just have closed it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// The stream alone, which counts as in use no more.
    ///
    /// # Panics
    /// Never: it is there until this is gone.
    #[must_use]
    pub fn into_stream(mut self) -> Stream {
        self.stream.take().expect("it is there until this is gone")
    }
}

impl Deref for Pooled {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        self.stream.as_ref().expect("it is there until this is gone")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Stream {
        self.stream.as_mut().expect("it is there until this is gone")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        // The connection before its place: whoever waits for that may open one at once.
        drop(self.stream.take());
        self.place.leave();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("to", self.0.dial.destination())
            .field("idle", &self.idle())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("is_used", &self.is_used).finish_non_exhaustive()
    }
}
