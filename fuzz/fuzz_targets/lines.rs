//! Lines: any stream, cut anywhere, gives the same lines, none of them longer than the limit.
#![no_main]

use campanile_protocol::Lines;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| campanile_fuzz::check_codec(data, || Lines::new(16)));
