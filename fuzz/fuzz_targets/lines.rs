//! Lines: any stream, cut anywhere, gives the same lines, none of them longer than the limit.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    campanile_fuzz::lines(data);
});
