//! `eipwatch:heartbeat`: what is read can be written into a tag, and reads the same.
#![no_main]

use eipwatch::core::tags::{Heartbeat, fits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(beat) = Heartbeat::parse(text) else { return };
    let written = beat.to_string();
    assert!(fits(&written), "{written}");
    let again = Heartbeat::parse(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.to_string(), written);
    assert_eq!((again.seq, again.status), (beat.seq, beat.status));
});
