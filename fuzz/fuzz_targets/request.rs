//! A request's address is whatever a client sends: it is refused, or it means one thing.
#![no_main]

use bastion_audit::gateway::request_info::{RequestInfo, canonical, query};

libfuzzer_sys::fuzz_target!(|request: (u8, String, String)| {
    let (method, path, raw) = request;
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let method = methods[usize::from(method) % methods.len()].parse().expect("a method");
    let (Ok(()), Ok(asked)) = (canonical(&path), query(Some(&raw))) else { return };
    let info = RequestInfo::parse(&method, &path, &asked);
    let about = info.summary();
    // What has been decoded cannot be decoded again to something else, nor taken apart in another place.
    for text in [&about.namespace, &about.resource, &about.subresource] {
        assert!(!text.contains(['/', '%', '\\']), "{text:?}");
        assert!(!matches!(text.as_str(), "." | ".."), "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    assert!(about.is_resource || about.resource.is_empty());
});
