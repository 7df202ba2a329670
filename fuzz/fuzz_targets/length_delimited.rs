//! Length-delimited frames: any stream, cut anywhere, gives the same frames, for every width of the length.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    campanile_fuzz::length_delimited(data);
});
