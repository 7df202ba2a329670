//! Bodies of HTTP/1.1: any stream, cut anywhere, gives the same data and trailers, for every way to find the end.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    campanile_fuzz::http1_body(data);
});
