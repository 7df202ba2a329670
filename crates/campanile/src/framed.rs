//! Framed: a codec and a handler of its frames, as a service.

use std::fmt;

use campanile_core::{Context, Control, Event, Flow, Service, Verdict};
use campanile_protocol::{Codec, Decoded, Full};

use crate::reply::Reply;

/// What comes after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Then {
    /// The next frame.
    #[default]
    Next,
    /// Nothing: what was written is sent, and the connection ends.
    Finish,
}

/// What a handler of frames may return: nothing, a [`Then`], or a result of either that is refused by [`Full`].
///
/// When it is [`Full`], all the handler wrote and handed over for this frame is taken back, and it is called again with
/// the same frame
/// once there is more room. So a handler may write with `?` and never sends half an answer.
#[diagnostic::on_unimplemented(
    message = "a handler of frames cannot return `{Self}`",
    note = "return nothing, `Then`, or `Result<_, Full>`, so that `reply.write(...)` can be the last expression"
)]
pub trait IntoThen {
    /// What comes next.
    ///
    /// # Errors
    /// [`Full`] when the answer did not fit.
    fn into_then(self) -> Result<Then, Full>;
}

impl IntoThen for () {
    fn into_then(self) -> Result<Then, Full> {
        Ok(Then::Next)
    }
}

impl IntoThen for Then {
    fn into_then(self) -> Result<Then, Full> {
        Ok(self)
    }
}

impl<T: IntoThen> IntoThen for Result<T, Full> {
    fn into_then(self) -> Result<Then, Full> {
        self?.into_then()
    }
}

/// A service that takes its input apart with `codec` and calls `handle` with every frame.
///
/// Frames are handled in order, each as soon as it is whole and there is room for an answer; a peer that does not read
/// its answers is not read from. Input that is no frame ends the connection, after
/// [`on_error`](Framed::on_error) had its say. What is unread at the end of the stream is a last frame, if the codec
/// says so. A frame that has begun is complete within [`Config::frame_timeout`](crate::Config), however its bytes
/// trickle in, or the connection is closed ([`Reason::Incomplete`](crate::Reason)). When the server drains, the
/// connection finishes between two frames.
///
/// A handler whose answer does not fit now is **called again** with the same frame ([`IntoThen`]): change nothing
/// before the last write. A single write may be of any length; several that together are longer than
/// [`Config::send_buffer_len`](crate::Config) never fit, and the connection is aborted: build such an answer as one, or
/// hand it over by [`Reply::send`].
///
/// ```
/// use campanile::{Lines, framed};
///
/// let shout = || framed(Lines::new(1024), |line, reply| reply.write_line(line.to_ascii_uppercase()));
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(shout());
/// ```
///
/// The handler sees frames and a [`Reply`], not the connection. For a greeting put [`on_open`](crate::on_open) around
/// it. For timers, wrap it in a [`Service`] that looks at the events and passes them on:
///
/// ```
/// use campanile::{Context, Event, Flow, Service};
/// use std::time::Duration;
///
/// /// Ends a connection on which nothing arrives for half a minute.
/// struct Idle<S>(S);
///
/// impl<S: Service> Service for Idle<S> {
///     fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
///         match event {
///             Event::Timer => return Flow::Finish,
///             Event::Open | Event::Input => cx.set_timer_in(Duration::from_secs(30)),
///             _ => {}
///         }
///         self.0.handle(event, cx)
///     }
/// }
/// ```
pub fn framed<C, H, T>(codec: C, handle: H) -> Framed<C, H, IgnoreError>
where
    C: Codec,
    H: FnMut(C::Frame<'_>, &mut Reply<'_, '_>) -> T,
    T: IntoThen,
{
    Framed { codec, handle, on_error: IgnoreError, is_draining: false }
}

/// A codec and a handler of its frames: see [`framed`].
pub struct Framed<C, H, E> {
    codec: C,
    handle: H,
    on_error: E,
    /// The server is to stop: the end is after the last whole frame.
    is_draining: bool,
}

impl<C: Codec, H> Framed<C, H, IgnoreError> {
    /// Calls `on_error` when the input is no frame, to answer before the connection ends.
    pub fn on_error<E>(self, on_error: E) -> Framed<C, H, E>
    where
        E: FnMut(C::Error, &mut Reply<'_, '_>),
    {
        Framed { codec: self.codec, handle: self.handle, on_error, is_draining: self.is_draining }
    }
}

/// What is done when the input is no frame.
pub trait OnError<E> {
    /// Answers, or does not.
    fn answer(&mut self, error: E, reply: &mut Reply<'_, '_>);
}

/// Ends the connection without a word.
#[derive(Debug, Clone, Copy)]
pub struct IgnoreError;

impl<E> OnError<E> for IgnoreError {
    fn answer(&mut self, _: E, _: &mut Reply<'_, '_>) {}
}

impl<E, F: FnMut(E, &mut Reply<'_, '_>)> OnError<E> for F {
    fn answer(&mut self, error: E, reply: &mut Reply<'_, '_>) {
        self(error, reply);
    }
}

impl<C, H, E, T> Framed<C, H, E>
where
    C: Codec,
    H: FnMut(C::Frame<'_>, &mut Reply<'_, '_>) -> T,
    E: OnError<C::Error>,
    T: IntoThen,
{
    /// Handles every whole frame of the input, as far as there is room for answers.
    fn handle_frames(&mut self, cx: &mut Context<'_>) -> Flow {
        let room = cx.promised_room();
        loop {
            if cx.input.is_empty() && !cx.input.is_ended() {
                return if self.is_draining { Flow::Finish } else { Flow::More(1) };
            }
            if cx.output.room() < room {
                return Flow::Room;
            }
            let unsent = cx.output.unsent();
            let (then, consumed) = {
                let found = match self.codec.decode(&cx.input) {
                    Ok(Decoded::Frame { frame, consumed }) => Ok(Some((frame, consumed))),
                    Ok(Decoded::More { at_least }) if !cx.input.is_ended() => return Flow::More(at_least),
                    Ok(Decoded::More { .. }) => self.codec.decode_end(&cx.input),
                    Err(error) => Err(error),
                };
                let mut reply = Reply::new(&mut cx.output);
                match found {
                    Ok(Some((frame, consumed))) => ((self.handle)(frame, &mut reply).into_then(), consumed),
                    Ok(None) => return Flow::Finish,
                    Err(error) => {
                        self.on_error.answer(error, &mut reply);
                        count(Verdict::ClientError, &mut cx.control);
                        return Flow::Finish;
                    }
                }
            };
            match then {
                Ok(then) => {
                    cx.input.consume(consumed);
                    count(Verdict::Success, &mut cx.control);
                    if then == Then::Finish {
                        return Flow::Finish;
                    }
                }
                Err(full) => {
                    cx.output.truncate(unsent);
                    // With nothing left to send there will never be more room than this.
                    return if cx.output.unsent() == 0 { too_long(full, cx) } else { Flow::Room };
                }
            }
        }
    }
}

/// A frame was handled, or refused.
fn count(verdict: Verdict, control: &mut Control<'_>) {
    control.count_request();
    control.count_answer(verdict);
}

#[cold]
fn too_long(full: Full, cx: &mut Context<'_>) -> Flow {
    count(Verdict::ServerError, &mut cx.control);
    tracing::error!(
        "an answer is longer than the output's whole room ({full}): hand it over with Reply::send"
    );
    Flow::Abort
}

impl<C, H, E, T> Service for Framed<C, H, E>
where
    C: Codec,
    H: FnMut(C::Frame<'_>, &mut Reply<'_, '_>) -> T,
    E: OnError<C::Error>,
    T: IntoThen,
{
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open | Event::Closed(_) => Flow::More(1),
            Event::Drain if cx.input.is_empty() => Flow::Finish,
            event => {
                self.is_draining |= matches!(event, Event::Drain);
                // Whatever came: what this connection waits for may be room.
                self.handle_frames(cx)
            }
        }
    }
}

impl<C: fmt::Debug, H, E> fmt::Debug for Framed<C, H, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("codec", &self.codec).finish_non_exhaustive()
    }
}
