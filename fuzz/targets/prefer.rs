//! `eipwatch:prefer`: an instance id.
#![no_main]

use eipwatch::core::tags::{instance_id, prefer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for read in [prefer(text), instance_id(text)] {
        match read {
            Ok(id) => assert_eq!(instance_id(id.as_str()), Ok(id)),
            Err(problem) => assert!(!problem.is_empty()),
        }
    }
});
