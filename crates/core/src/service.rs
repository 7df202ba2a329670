//! The service: the user's side of a connection, and everything that crosses the seam to it.
//!
//! A service is told one [`Event`] at a time, sees its connection through one borrowed [`Context`], and says by
//! [`Flow`] what it waits for. HTTP, lines, TLS, a proxy, an async handler: each is a service over bytes, so they
//! stack like the layers of the wire itself (see [`Nested`](crate::Nested)).
//!
//! # The one rule
//!
//! A service is called when something changed. Within a turn it is called again while it consumes or writes; a call
//! that does neither parks it until the next change, and a change during the call is not lost. So nothing spins, and
//! nothing stalls.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use crate::control::{Control, Scope};
use crate::errand::{Answer, Ticket};
use crate::input::Input;
use crate::output::Output;
use crate::time::Time;
use crate::timeout::Timeout;

/// What runs on one connection.
///
/// Most servers are a closure over the input and the output, which is a service too:
///
/// ```
/// use campanile_core::{Flow, Input, Output, Service};
///
/// fn echo(input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
///     let n = input.len().min(output.room());
///     output.write(input.consume(n)).expect("no longer than the room");
///     Flow::More(1)
/// }
///
/// fn is_a_service(_: impl Service) {}
/// is_a_service(echo);
/// ```
///
/// A service lives on one worker thread and need not be `Send`. One that wants to know more than input and output
/// implements the trait itself:
///
/// ```
/// use campanile_core::{Context, Event, Flow, Service};
///
/// /// Counts bytes, and answers with the count when the client has sent everything, or nothing for ten seconds.
/// struct Count(u64);
///
/// impl Service for Count {
///     fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
///         self.0 += cx.input.consume_all().len() as u64;
///         cx.set_timer_in(std::time::Duration::from_secs(10));
///         match event {
///             // `End` always comes by itself, after the input before it.
///             Event::End | Event::Timer | Event::Drain => {
///                 cx.output.write(format!("{}\n", self.0).as_bytes()).expect("there is room for a line");
///                 Flow::Finish // the last event after this is `Closed`
///             }
///             _ => Flow::More(1), // what is returned to `Closed` matters rarely: see there
///         }
///     }
/// }
/// # let _: Box<dyn Service> = Box::new(Count(0));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service",
    label = "this cannot run on a connection",
    note = "implement `Service`, or pass a closure `|input: &mut Input<'_>, output: &mut Output<'_>| -> Flow`",
    note = "closures need both argument types written out"
)]
pub trait Service {
    /// Handles one event; what it waits for next is its answer.
    ///
    /// A panic closes this connection and no other.
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow;
}

impl Service for Box<dyn Service> {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        (**self).handle(event, cx)
    }
}

/// The shorthand: called for input, room and the end of input, and for whatever else happens while input is unread. At
/// the end it finishes once it has nothing to add; when the server drains it finishes as soon as no input is unread.
impl<F> Service for F
where
    F: FnMut(&mut Input<'_>, &mut Output<'_>) -> Flow,
{
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Input | Event::Room | Event::End => self(&mut cx.input, &mut cx.output),
            Event::Drain if cx.input.is_empty() => Flow::Finish,
            Event::Open | Event::Closed(_) => Flow::More(1),
            _ if cx.input.is_empty() => Flow::More(1),
            // Only the closure knows whether it waits for input or for room.
            _ => self(&mut cx.input, &mut cx.output),
        }
    }
}

/// A service that is made when the connection is there, with the context at hand: to ask for another connection, a
/// channel or an address first.
///
/// ```
/// use campanile_core::{Context, Flow, Input, Output, on_open};
///
/// let greet = || on_open(|cx: &mut Context<'_>| {
///     cx.output.write(b"welcome\r\n").expect("there is room at the beginning");
///     |input: &mut Input<'_>, _: &mut Output<'_>| {
///         input.consume_all();
///         Flow::More(1)
///     }
/// });
/// # fn is_a_service(_: impl campanile_core::Service) {}
/// # is_a_service(greet());
/// ```
pub fn on_open<S: Service + 'static>(make: impl FnOnce(&mut Context<'_>) -> S) -> impl Service {
    let mut make = Some(make);
    OnOpen(move |cx: &mut Context<'_>| make.take().map(|make| Box::new(make(cx)) as Box<dyn Service>))
}

struct OnOpen<F>(F);

impl<F: FnMut(&mut Context<'_>) -> Option<Box<dyn Service>>> Service for OnOpen<F> {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open => (self.0)(cx).map_or(Flow::Wait, Flow::Become),
            // A connection that could not be made is closed without having been open.
            _ => Flow::Wait,
        }
    }
}

/// What changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection is there: the first event of every service, but of one whose connection was never made: that is
    /// told [`Closed`](Event::Closed) alone.
    Open,
    /// Unread input is there, and more of it than at the last call, or the last call made progress.
    Input,
    /// There is room for output again.
    Room,
    /// The peer sends nothing more. What is unread is the last; answers can still be sent (half-close).
    End,
    /// The time asked for by [`Control::set_timer`] has come.
    Timer,
    /// Somebody called a [`Waker`](crate::Waker), or the other side of a [`channel`](crate::channel) changed.
    Wake,
    /// What the service asked its worker for.
    Answer(Ticket, Answer),
    /// The server is to stop: finish what was begun, and begin nothing.
    Drain,
    /// The connection is over, and the service is dropped after this call. Nothing can be sent.
    ///
    /// What is answered does not matter, with one exception: when the [server stopped](Reason::ServerStopped) in the
    /// middle of what ends with the connection, [`Flow::Abort`] lets the peer see a reset, so that it does not take
    /// what it got for the whole. If something is unsent it does so anyway.
    Closed(Reason),
}

/// What a service waits for, or how it ends.
///
/// Each answer takes the place of the one before. So an event that a service does not care about is answered with what
/// it still waits for: one that waits for [`Room`](Flow::Room) and answers [`Event::Drain`] with
/// [`More`](Flow::More) waits for input from then on.
#[derive(Default)]
#[non_exhaustive]
pub enum Flow {
    /// Input: at least this many bytes more than are unread now; none is as one. (Timers, wakes and answers come all
    /// the same.)
    ///
    /// What is unread now was seen, and is not announced again. So a service that leaves input unread, because it waits
    /// for something else, looks at it by itself in the event that it waited for.
    ///
    /// After the end of input there is no more to come: then this means [`Finish`](Flow::Finish).
    More(usize),
    /// Room for output: called again when a send has completed, or at once if this call consumed or wrote something.
    ///
    /// With nothing [unsent](Output::unsent) there will never be more room than there is, and nothing to wait for.
    Room,
    /// Both: that much more input, or room, whichever comes first. For services that pass bytes on in both directions,
    /// where one direction must not wait for the other: they are told of input even while there is no room.
    ///
    /// After the end of input it means [`Room`](Flow::Room).
    MoreOrRoom(usize),
    /// Nothing from the peer: a timer, a wake or an answer. Input is left to wait, in the end with the peer, and with
    /// it the end of input; only that the peer has reset the connection is noticed.
    #[default]
    Wait,
    /// Send what was written, then close, so that the peer gets all of it even if it is still sending (what it
    /// sends is read and discarded, up to a bound and a deadline).
    Finish,
    /// Send what was written, then close at once: for protocols that know the peer has nothing more to say, such as
    /// HTTP after the last request. Cheaper than [`Finish`](Flow::Finish), which it turns into if input is unread all
    /// the same.
    Close,
    /// Close at once and send nothing more; the peer sees a reset.
    Abort,
    /// Become another service, which gets [`Event::Open`] and the unread input (an upgrade). A service that wraps
    /// another and hands this on is replaced together with it; a [`Layer`](crate::Layer) stays.
    Become(Box<dyn Service>),
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flow::More(n) => write!(f, "More({n})"),
            Flow::Room => f.write_str("Room"),
            Flow::MoreOrRoom(n) => write!(f, "MoreOrRoom({n})"),
            Flow::Wait => f.write_str("Wait"),
            Flow::Finish => f.write_str("Finish"),
            Flow::Close => f.write_str("Close"),
            Flow::Abort => f.write_str("Abort"),
            Flow::Become(_) => f.write_str("Become"),
        }
    }
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It ended as the service asked.
    Finished,
    /// The service aborted it.
    Aborted,
    /// The peer is gone (reset, timed out, unreachable); the errno says how.
    PeerGone(i32),
    /// The peer took nothing of what was sent for [`Config::send_stall`](crate::Config).
    Stalled,
    /// The peer took less of what was sent than [`Config::send_rate`](crate::Config) asks for.
    TooSlow,
    /// Nothing was received or sent for [`Config::idle_timeout`](crate::Config).
    Idle,
    /// The service waited for the rest of input it had seen for [`Config::frame_timeout`](crate::Config).
    Incomplete,
    /// It went on after [`Config::lifetime`](crate::Config) and [`Config::lifetime_grace`](crate::Config).
    TooOld,
    /// The service wanted more unread input than [`Config::input_limit`](crate::Config) allows.
    InputLimit,
    /// The connection asked for could not be made; the asker was told why.
    NotConnected,
    /// The server stopped.
    ServerStopped,
    /// The service panicked.
    Panicked,
    /// An operation failed for a reason that is not the peer's; the errno says which.
    Failed(i32),
}

impl Reason {
    /// The deadline that was missed, if it is one.
    pub(crate) fn timeout(self) -> Option<Timeout> {
        match self {
            Reason::Stalled => Some(Timeout::Stall),
            Reason::TooSlow => Some(Timeout::SendRate),
            Reason::Idle => Some(Timeout::Idle),
            Reason::Incomplete => Some(Timeout::Frame),
            Reason::TooOld => Some(Timeout::Lifetime),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Finished => f.write_str("finished"),
            Reason::Aborted => f.write_str("aborted by the service"),
            Reason::PeerGone(errno) => write!(f, "peer gone: {}", io::Error::from_raw_os_error(*errno)),
            Reason::Stalled => f.write_str("the peer stopped reading"),
            Reason::TooSlow => f.write_str("the peer reads too slowly"),
            Reason::Idle => f.write_str("nothing was received or sent for too long"),
            Reason::Incomplete => f.write_str("the rest of what had begun did not come in time"),
            Reason::TooOld => f.write_str("the connection has grown too old"),
            Reason::InputLimit => f.write_str("the service wanted more input than the limit allows"),
            Reason::NotConnected => f.write_str("not connected"),
            Reason::ServerStopped => f.write_str("the server stopped"),
            Reason::Panicked => f.write_str("the service panicked"),
            Reason::Failed(errno) => write!(f, "failed: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

/// A connection as its service sees it, for the length of one call: its bytes, and by dereference all that
/// [`Control`] offers.
pub struct Context<'a> {
    /// The unread input.
    pub input: Input<'a>,
    /// The output and its room.
    pub output: Output<'a>,
    /// Everything else. A field of its own, so that it can be used while input or output are borrowed.
    pub control: Control<'a>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        input: Input<'a>,
        output: Output<'a>,
        timer: &'a mut Option<Time>,
        scope: Scope<'a>,
    ) -> Context<'a> {
        Context { input, output, control: Control::new(timer, scope) }
    }

    /// The context of an inner service, over input and output of a layer's own; everything else is this
    /// connection's. `timer` is the inner service's own time.
    pub(crate) fn nest<'b>(
        &'b mut self,
        input: Input<'b>,
        output: Output<'b>,
        timer: &'b mut Option<Time>,
    ) -> Context<'b> {
        Context { input, output, control: self.control.nest(timer) }
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress { consumed: self.input.consumed(), unsent: self.output.unsent() }
    }
}

impl<'a> Deref for Context<'a> {
    type Target = Control<'a>;

    fn deref(&self) -> &Control<'a> {
        &self.control
    }
}

impl<'a> DerefMut for Context<'a> {
    fn deref_mut(&mut self) -> &mut Control<'a> {
        &mut self.control
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("unread", &self.input.len())
            .field("output", &self.output)
            .field("control", &self.control)
            .finish()
    }
}

/// What a call did, by what it left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) consumed: usize,
    pub(crate) unsent: usize,
}
