//! HTTP/1.1 requests with their bodies: any stream, cut anywhere, gives the same requests or the same refusal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    campanile_fuzz::http1_request(data);
});
