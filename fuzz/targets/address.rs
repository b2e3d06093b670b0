//! `eipwatch:address`: a private IPv4 address.
#![no_main]

use eipwatch::core::tags::private_address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(ip) = private_address(text) {
        assert_eq!(private_address(&ip.to_string()), Ok(ip));
    }
});
