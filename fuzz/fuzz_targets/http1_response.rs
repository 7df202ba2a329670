//! HTTP/1.1 responses with their bodies: any stream, cut anywhere, gives the same responses or the same refusal.
#![no_main]

use campanile_fuzz::{LIMITS, Transcript, body_step, last_step, step};
use campanile_protocol::http1::{BodyDecoder, Method, ResponseDecoder, ResponseHead, field_slots};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| campanile_fuzz::check(data, || {
    let mut heads = ResponseDecoder::new(LIMITS);
    let mut body: Option<BodyDecoder> = None;
    move |input: &[u8], ended: bool, seen: &mut Transcript| {
        if let Some(decoder) = &mut body {
            let next = body_step(decoder, input, ended, seen);
            if decoder.is_done() {
                body = None;
            }
            return next;
        }
        let mut slots = field_slots::<8>();
        let each = |head: ResponseHead<'_, '_>| {
            seen.frame(format!("{head:?}"));
            body = Some(BodyDecoder::new(head.body_after(Method::Get), &LIMITS));
        };
        if ended {
            last_step(heads.decode_end(input, &mut slots), each)
        } else {
            step(heads.decode(input, &mut slots), each)
        }
    }
}));
