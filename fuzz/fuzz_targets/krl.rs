//! A revocation list is whatever lies at a path: refused, or read as one; and what it lists is found.
#![no_main]

use bastion_audit::identity::krl::Krl;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = Krl::parse(bytes) else { return };
    // As large as the list at most.
    assert!(list.entries() <= bytes.len());
    let again = Krl::parse(bytes).expect("read before");
    assert_eq!(list, again);
});
