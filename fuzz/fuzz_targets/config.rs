//! A configuration, authorized_keys lines and options included: never a panic, and a problem has a place.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(problems) = bastion_audit::config::parse(Path::new("fuzz.yaml"), text) {
        assert!(problems.iter().count() > 0, "refused without a reason");
    }
});
