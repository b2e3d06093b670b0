//! `eipwatch:priority`: 0 to 1000.
#![no_main]

use eipwatch::core::tags::priority;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(read) = priority(text) {
        assert!(read <= 1_000);
        assert_eq!(priority(&read.to_string()), Ok(read));
    }
});
