//! `eipwatch:cluster`, of an address and of an instance: every name that is read is one.
#![no_main]

use std::collections::BTreeSet;

use eipwatch::core::tags::{cluster_name, cluster_names};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = cluster_name(text) {
        assert_eq!(cluster_name(name.as_str()), Ok(name));
    }
    let (names, problems) = cluster_names(text);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert!(names.iter().all(|name| cluster_name(name.as_str()).as_ref() == Ok(name)));
    assert!(problems.iter().all(|problem| !problem.is_empty()));
});
