//! The stream: a connection for futures, with lines and frames.

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::task::Poll;

use campanile_core::Bytes;
use campanile_protocol::{Codec, Decoded, EncodeError, Encoder, Lines, VecSink};

/// A connection, to read from and write to by futures: see [`campanile_core::Stream`], which it dereferences to, for
/// bytes, addresses and endings. This adds lines and frames.
///
/// ```no_run
/// use campanile::{Server, Stream};
///
/// fn main() -> Result<(), campanile::ServeError> {
///     let shout = async |mut stream: Stream| -> std::io::Result<()> {
///         while let Some(line) = stream.read_line(1024).await? {
///             stream.write_line(line.to_ascii_uppercase()).await?;
///         }
///         Ok(())
///     };
///     Server::new().listen("127.0.0.1:7000").serve(shout)?.wait()
/// }
/// ```
///
/// It is said [there](campanile_core::Stream#what-a-write-that-is-done-means) what it means that a write is done.
#[derive(Debug)]
pub struct Stream(campanile_core::Stream);

/// The reading half of a [`Stream`]: see [`campanile_core::ReadHalf`], which it dereferences to.
#[derive(Debug)]
pub struct ReadHalf(campanile_core::ReadHalf);

/// A frame that can be kept: what [`Stream::frame`] returns of it. Bytes are copied into [`Bytes`]; a codec whose
/// frames borrow from nothing has them implement this by returning themselves.
pub trait IntoOwned {
    /// What is kept.
    type Owned;

    /// The frame without a borrow.
    fn into_owned(self) -> Self::Owned;
}

impl IntoOwned for &[u8] {
    type Owned = Bytes;

    fn into_owned(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

/// The writing half of a [`Stream`]: see [`campanile_core::WriteHalf`], which it dereferences to.
#[derive(Debug)]
pub struct WriteHalf(campanile_core::WriteHalf);

/// Why there is no frame.
#[derive(Debug)]
#[non_exhaustive]
pub enum FrameError<E> {
    /// The connection is over.
    Io(io::Error),
    /// What came can never become a frame.
    Invalid(E),
}

impl<E: fmt::Display> fmt::Display for FrameError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Io(error) => error.fmt(f),
            FrameError::Invalid(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for FrameError<E> {}

impl<E> From<io::Error> for FrameError<E> {
    fn from(error: io::Error) -> FrameError<E> {
        FrameError::Io(error)
    }
}

impl<E: Error + Send + Sync + 'static> From<FrameError<E>> for io::Error {
    fn from(error: FrameError<E>) -> io::Error {
        match error {
            FrameError::Io(error) => error,
            FrameError::Invalid(error) => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Where frames are read from.
trait Source {
    fn unread(&self) -> &[u8];
    fn consume(&mut self, n: usize);
    async fn fill(&mut self, n: usize) -> io::Result<usize>;

    async fn read_line(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        Ok(self.frame(&mut Lines::new(max), Bytes::copy_from_slice).await?)
    }

    /// The next frame, as `own` makes it something that borrows from nothing.
    async fn frame<C: Codec, T>(
        &mut self,
        codec: &mut C,
        own: impl FnOnce(C::Frame<'_>) -> T,
    ) -> Result<Option<T>, FrameError<C::Error>> {
        let (frame, consumed) = loop {
            let unread = self.unread();
            let wanted = match codec.decode(unread).map_err(FrameError::Invalid)? {
                Decoded::Frame { frame, consumed } => break (own(frame), consumed),
                Decoded::More { at_least } => unread.len() + at_least.max(1),
            };
            if self.fill(wanted).await? >= wanted {
                continue;
            }
            match codec.decode_end(self.unread()).map_err(FrameError::Invalid)? {
                Some((frame, consumed)) => break (own(frame), consumed),
                None => return Ok(None),
            }
        };
        self.consume(consumed);
        Ok(Some(frame))
    }
}

macro_rules! source {
    ($name:ident) => {
        impl Source for $name {
            fn unread(&self) -> &[u8] {
                self.0.unread()
            }

            fn consume(&mut self, n: usize) {
                self.0.consume(n);
            }

            async fn fill(&mut self, n: usize) -> io::Result<usize> {
                self.0.fill(n).await
            }
        }

        impl $name {
            /// The next line, without its LF or CRLF; `None` at the end. The last one may have no ending.
            ///
            /// # Errors
            /// `InvalidData` when the line is longer than `max` bytes: what follows is then in the middle of it, and
            /// the connection is to be given up. Else when the connection is over, and not by an end that the peer has
            /// sent.
            pub async fn read_line(&mut self, max: usize) -> io::Result<Option<Bytes>> {
                Source::read_line(self, max).await
            }

            /// The next frame of a codec, as something that borrows from nothing ([`IntoOwned`]); `None` at the end.
            ///
            /// Dropping the future loses nothing: the frame comes with the next call, by the same codec.
            ///
            /// ```no_run
            /// # use campanile::{ByteOrder, LengthDelimited, LengthWidth, Stream};
            /// # async fn example(mut stream: Stream) -> std::io::Result<()> {
            /// let mut codec = LengthDelimited::new(LengthWidth::Four, ByteOrder::BigEndian, 1 << 20);
            /// while let Some(frame) = stream.frame(&mut codec).await? {
            ///     println!("{} bytes", frame.len());
            /// }
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            /// When the bytes are no frame, or the connection is over, and not by an end that the peer has sent.
            pub async fn frame<C, T>(&mut self, codec: &mut C) -> Result<Option<T>, FrameError<C::Error>>
            where
                C: Codec,
                for<'a> C::Frame<'a>: IntoOwned<Owned = T>,
            {
                Source::frame(self, codec, |frame| frame.into_owned()).await
            }

            /// The same; `own` says what is kept of the frame.
            ///
            /// # Errors
            /// As [`frame`](Self::frame).
            pub async fn frame_with<C: Codec, T>(
                &mut self,
                codec: &mut C,
                own: impl FnOnce(C::Frame<'_>) -> T,
            ) -> Result<Option<T>, FrameError<C::Error>> {
                Source::frame(self, codec, own).await
            }
        }
    };
}

source!(Stream);
source!(ReadHalf);

macro_rules! sink {
    ($name:ident) => {
        impl $name {
            /// Writes a line and LF: see [`write`](campanile_core::Stream::write).
            ///
            /// # Errors
            /// As there.
            pub async fn write_line(&mut self, line: impl AsRef<[u8]>) -> io::Result<()> {
                self.0.write_pieces(&[line.as_ref(), b"\n"]).await
            }

            /// Writes an item as a codec encodes it: see [`write`](campanile_core::Stream::write).
            ///
            /// # Errors
            /// When the item cannot be written by this codec; else as there.
            pub async fn write_frame<C: Encoder<I>, I>(
                &mut self,
                codec: &mut C,
                item: I,
            ) -> Result<(), FrameError<C::Error>> {
                let mut bytes = Vec::new();
                match codec.encode(item, &mut VecSink::new(&mut bytes, usize::MAX)) {
                    Ok(()) => Ok(self.0.send(bytes.into()).await?),
                    Err(EncodeError::Invalid(error)) => Err(FrameError::Invalid(error)),
                    // There is room for all there can be.
                    Err(EncodeError::Full(_)) => Err(FrameError::Io(io::ErrorKind::OutOfMemory.into())),
                }
            }
        }
    };
}

sink!(Stream);
sink!(WriteHalf);

impl Stream {
    /// Two halves, for two futures.
    #[must_use]
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (read, write) = self.0.into_split();
        (ReadHalf(read), WriteHalf(write))
    }

    /// The stream of two halves.
    ///
    /// # Panics
    /// When they are not of one.
    #[must_use]
    pub fn unsplit(read: ReadHalf, write: WriteHalf) -> Stream {
        Stream(campanile_core::Stream::unsplit(read.0, write.0))
    }

    /// Closes the connection at once, and sends nothing more: the peer sees a reset.
    pub fn abort(self) {
        self.0.abort();
    }
}

impl WriteHalf {
    /// See [`Stream::abort`].
    pub fn abort(self) {
        self.0.abort();
    }
}

impl From<campanile_core::Stream> for Stream {
    fn from(stream: campanile_core::Stream) -> Stream {
        Stream(stream)
    }
}

macro_rules! deref {
    ($($name:ident)*) => {$(
        impl Deref for $name {
            type Target = campanile_core::$name;

            fn deref(&self) -> &campanile_core::$name {
                &self.0
            }
        }

        impl DerefMut for $name {
            fn deref_mut(&mut self) -> &mut campanile_core::$name {
                &mut self.0
            }
        }
    )*};
}

deref!(Stream ReadHalf WriteHalf);

/// Passes bytes on between two connections, in both directions, until both have ended: for a handler that has connected
/// to somewhere else on behalf of its client.
///
/// An end is passed on as an end, while the other direction goes on. When one connection fails, or this is dropped
/// before its end, both are reset, so that neither peer takes what it got for the whole. A server that drains waits for
/// it until [`Config::drain_time`](crate::Config) is over.
///
/// ```no_run
/// use campanile::{Server, Stream, connect, relay};
///
/// fn main() -> Result<(), campanile::ServeError> {
///     let pass = async |stream: Stream| -> std::io::Result<()> {
///         let there = connect("localhost:8080").await.map_err(std::io::Error::other)?;
///         relay(stream, there).await
///     };
///     Server::new().listen("127.0.0.1:7002").serve(pass)?.wait()
/// }
/// ```
///
/// # Errors
/// Why one of the connections is over.
pub async fn relay(mut one: Stream, mut other: Stream) -> io::Result<()> {
    one.ignore_drain();
    other.ignore_drain();
    let ((mut one_in, one_out), (mut other_in, other_out)) = (one.into_split(), other.into_split());
    let (mut one_out, mut other_out) = (Cut(Some(one_out)), Cut(Some(other_out)));
    let (mut forth, mut back) =
        (pin!(pass_on(&mut one_in, &mut other_out)), pin!(pass_on(&mut other_in, &mut one_out)));
    let (mut forth_done, mut back_done) = (false, false);
    poll_fn(|cx| {
        for (direction, is_done) in [(forth.as_mut(), &mut forth_done), (back.as_mut(), &mut back_done)] {
            if !*is_done && let Poll::Ready(passed) = direction.poll(cx) {
                passed?;
                *is_done = true;
            }
        }
        if forth_done && back_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

async fn pass_on(from: &mut ReadHalf, to: &mut Cut) -> io::Result<()> {
    let Some(out) = &mut to.0 else { return Ok(()) };
    while from.fill(1).await? > 0 {
        out.send(from.take(usize::MAX)).await?;
    }
    out.shutdown().await?;
    to.0 = None;
    Ok(())
}

/// A direction that is not at its end: dropped like that, it is cut.
struct Cut(Option<WriteHalf>);

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(out) = self.0.take() {
            out.abort();
        }
    }
}
