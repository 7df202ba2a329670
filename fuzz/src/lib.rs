//! What all targets share: a stream is fed to a decoder whole and cut, and has to give the same either way.

use campanile_protocol::http1::{BodyDecoder, BodyPart, Limits};
use campanile_protocol::{Codec, Decoded};

/// Small, so that short streams reach them.
pub const LIMITS: Limits =
    Limits { request_line: 64, field_line: 64, head: 256, chunk_extension: 16, trailers: 64 };

/// What a stream gave: each frame as text, and the error it ended with.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Transcript {
    frames: Vec<String>,
    error: Option<String>,
}

impl Transcript {
    /// Adds bytes of a body, whose cuts mean nothing: they are joined with those before.
    pub fn data(&mut self, data: &[u8]) {
        let text = data.escape_ascii().to_string();
        match self.frames.last_mut() {
            Some(last) if last.starts_with("data ") => last.push_str(&text),
            _ => self.frames.push(format!("data {text}")),
        }
    }

    /// Adds a frame.
    pub fn frame(&mut self, frame: String) {
        self.frames.push(frame);
    }
}

/// A decoder's next step: the bytes it took, `None` when it waits for more or is at the end, or why it failed.
pub type Step = Result<Option<usize>, String>;

/// Reads a step off what a decoder answered, and shows the frame to `each`.
pub fn step<F, E: std::fmt::Debug>(decoded: Result<Decoded<F>, E>, each: impl FnOnce(F)) -> Step {
    match decoded {
        Ok(Decoded::Frame { frame, consumed }) => {
            each(frame);
            Ok(Some(consumed))
        }
        Ok(Decoded::More { at_least }) => {
            assert!(at_least >= 1, "more, but none");
            Ok(None)
        }
        Err(error) => Err(format!("{error:?}")),
    }
}

/// The same for the end of the input.
pub fn last_step<F, E: std::fmt::Debug>(
    decoded: Result<Option<(F, usize)>, E>,
    each: impl FnOnce(F),
) -> Step {
    match decoded {
        Ok(found) => Ok(found.map(|(frame, consumed)| {
            each(frame);
            consumed
        })),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Reads a step of a body.
pub fn body_step(body: &mut BodyDecoder, input: &[u8], ended: bool, seen: &mut Transcript) -> Step {
    let each = |part: BodyPart<'_>| match part {
        BodyPart::Data(data) => seen.data(data),
        BodyPart::End(trailers) => seen.frame(format!("{:?}", trailers.fields().collect::<Vec<_>>())),
    };
    if ended { last_step(body.decode_end(input), each) } else { step(body.decode(input), each) }
}

/// Checks one decoder: the first byte of `data` says where the rest is cut, and `start` makes a decoder for each run.
pub fn check<D>(data: &[u8], mut start: impl FnMut() -> D)
where
    D: FnMut(&[u8], bool, &mut Transcript) -> Step,
{
    let Some((&every, stream)) = data.split_first() else { return };
    let whole = feed(start(), stream, stream.len().max(1));
    let cut = feed(start(), stream, usize::from(every).max(1));
    assert_eq!(whole, cut, "cut every {every} bytes: {}", stream.escape_ascii());
}

/// Checks a [`Codec`].
pub fn check_codec<C>(data: &[u8], mut codec: impl FnMut() -> C)
where
    C: Codec,
    for<'a> C::Frame<'a>: std::fmt::Debug,
{
    check(data, || {
        let mut codec = codec();
        move |input: &[u8], ended: bool, seen: &mut Transcript| {
            let each = |frame: C::Frame<'_>| seen.frame(format!("{frame:?}"));
            if ended { last_step(codec.decode_end(input), each) } else { step(codec.decode(input), each) }
        }
    });
}

fn feed<D>(mut decoder: D, stream: &[u8], every: usize) -> Transcript
where
    D: FnMut(&[u8], bool, &mut Transcript) -> Step,
{
    let mut seen = Transcript::default();
    let mut taken = 0;
    let ends = (every..stream.len()).step_by(every).map(|end| (end, false));
    for (end, ended) in ends.chain([(stream.len(), false), (stream.len(), true)]) {
        loop {
            match decoder(&stream[taken..end], ended, &mut seen) {
                Ok(Some(consumed)) => {
                    assert!(consumed <= end - taken, "took {consumed} of {} bytes", end - taken);
                    taken += consumed;
                }
                Ok(None) => break,
                Err(error) => {
                    seen.error = Some(error);
                    return seen;
                }
            }
        }
    }
    seen
}
