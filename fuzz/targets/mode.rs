//! `eipwatch:mode`, of an address and of a node.
#![no_main]

use eipwatch::core::tags::{AddressMode, NodeMode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(mode) = AddressMode::parse(text) {
        assert_eq!(AddressMode::parse(&mode.to_string()), Ok(mode));
    }
    if let Ok(mode) = NodeMode::parse(text) {
        assert_eq!(NodeMode::parse(mode.as_str()), Ok(mode));
    }
});
