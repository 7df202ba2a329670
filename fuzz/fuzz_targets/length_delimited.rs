//! Length-delimited frames: any stream, cut anywhere, gives the same frames, for every width of the length.
#![no_main]

use campanile_protocol::{ByteOrder, LengthDelimited, LengthWidth};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for (width, order) in [
        (LengthWidth::One, ByteOrder::BigEndian),
        (LengthWidth::Two, ByteOrder::LittleEndian),
        (LengthWidth::Four, ByteOrder::BigEndian),
        (LengthWidth::Eight, ByteOrder::LittleEndian),
    ] {
        campanile_fuzz::check_codec(data, || LengthDelimited::new(width, order, 300));
    }
});
