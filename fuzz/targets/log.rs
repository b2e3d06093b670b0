//! A line of the log, read back as `replay` reads it: what was read can be written, and reads the same.
#![no_main]

use eipwatch::core::log::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let Ok(record) = serde_json::from_str::<Record>(line) else { return };
    let written = serde_json::to_string(&record).expect("a record can be written");
    let again: Record = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(serde_json::to_string(&again).expect("a record can be written"), written);
});
