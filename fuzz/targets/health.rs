//! `eipwatch:health`: what is read can be written into a tag, and reads the same.
#![no_main]

use eipwatch::core::tags::{Health, fits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(health) = Health::parse(text) else { return };
    let written = health.to_string();
    assert!(fits(&written), "{written}");
    let again = Health::parse(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.to_string(), written);
    assert_eq!((again.verdict, again.leaving.is_some()), (health.verdict, health.leaving.is_some()));
});
