//! `eipwatch:check`: the readable checks are written as they are read.
#![no_main]

use eipwatch::core::tags::checks;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (read, _) = checks(text);
    let written: Vec<String> = read.iter().map(ToString::to_string).collect();
    let (again, problems) = checks(&written.join(" "));
    assert_eq!(again, read);
    assert!(problems.is_empty(), "{problems:?}");
});
