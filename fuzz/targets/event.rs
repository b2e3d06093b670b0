//! A payload of the function: it is read, ignored or refused, always the same way, and a refusal shows a payload that runs.
#![no_main]

use eipwatch::core::event::{Request, parse};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(payload) = serde_json::from_slice::<Value>(data) else { return };
    let read = parse(&payload);
    assert_eq!(read, parse(&payload));
    match read {
        Ok(Request::Run(triggers)) => assert!(!triggers.is_empty()),
        Ok(Request::Ignored(text)) => assert!(!text.is_empty()),
        Err(bad) => {
            let text = bad.to_string();
            let example = text.rsplit("A correct payload: ").next().and_then(|text| serde_json::from_str(text).ok());
            let example: Value = example.unwrap_or_else(|| panic!("no example in: {text}"));
            assert!(matches!(parse(&example), Ok(Request::Run(_))), "{text}");
        }
    }
});
