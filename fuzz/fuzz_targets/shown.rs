//! What a replay lets through to an auditor's terminal: no operating system commands, no device control
//! strings, no 8-bit controls, however the text is cut.
#![no_main]

use bastion_audit::replay::SafeText;

libfuzzer_sys::fuzz_target!(|chunks: Vec<String>| {
    let mut safe = SafeText::default();
    let mut out = String::new();
    for chunk in &chunks {
        safe.feed(chunk, &mut out);
    }
    for forbidden in ["\u{1b}]", "\u{1b}P", "\u{1b}_", "\u{1b}^", "\u{1b}X", "\u{1b}c"] {
        assert!(!out.contains(forbidden), "{forbidden:?} in {out:?}");
    }
    assert!(!out.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c)), "an 8-bit control in {out:?}");
});
