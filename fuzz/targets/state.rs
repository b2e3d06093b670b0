//! `eipwatch:state`: what is read can be written into a tag, and reads the same.
#![no_main]

use eipwatch::core::tags::{State, fits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(state) = State::parse(text) else { return };
    let written = state.to_string();
    assert!(fits(&written), "{written}");
    let again = State::parse(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.to_string(), written);
    assert_eq!(again.holder, state.holder);
});
