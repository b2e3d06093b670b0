//! `eipwatch:policy`: any text gives a policy that can be written and reads the same.
#![no_main]

use eipwatch::core::policy::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (policy, problems) = parse(text);
    let (again, none) = parse(&policy.differences());
    assert_eq!(again, policy);
    assert!(none.is_empty(), "{none:?}");
    assert!(problems.iter().all(|problem| !problem.is_empty()));
});
