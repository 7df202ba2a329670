//! Bodies of HTTP/1.1: any stream, cut anywhere, gives the same data and trailers, for every way to find the end.
#![no_main]

use campanile_fuzz::{LIMITS, Transcript, body_step};
use campanile_protocol::http1::{BodyDecoder, BodyLength};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for length in [BodyLength::Empty, BodyLength::Length(20), BodyLength::Chunked, BodyLength::UntilClose] {
        campanile_fuzz::check(data, || {
            let mut body = BodyDecoder::new(length, &LIMITS);
            // What follows the body is not its affair.
            move |input: &[u8], ended: bool, seen: &mut Transcript| {
                if body.is_done() { Ok(None) } else { body_step(&mut body, input, ended, seen) }
            }
        });
    }
});
