//! HTTP/1.1 responses with their bodies: any stream, cut anywhere, gives the same responses or the same refusal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    campanile_fuzz::http1_response(data);
});
