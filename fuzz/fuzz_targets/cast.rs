//! A recording as an attacker who can write the store would have it: read to its end or refused.
#![no_main]

use bastion_audit::recording::{Manifest, Reader};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Whether it is one does not matter here; that reading it ends does.
    drop(Manifest::parse(bytes));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        if let Ok(mut reader) = Reader::open(bytes).await {
            while let Ok(Some(_)) = reader.next().await {}
        }
    });
});
