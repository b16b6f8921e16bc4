//! A login name is whatever a client sends: a decision or a denial, and the denial is printable.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use bastion_audit::clock::{Clock, SystemClock};
use bastion_audit::config::{self, Config, Name, SessionKind};
use bastion_audit::policy::{self, Request, Somebody, Supposed};

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    config::parse(Path::new("fuzz.yaml"), include_str!("login.yaml")).expect("a valid configuration")
});

libfuzzer_sys::fuzz_target!(|principal: String| {
    let identity = Name::new("operator-a").expect("a name");
    let somebody = Somebody::listed(&CONFIG.identities[&identity]);
    let request = Request { principal, kind: SessionKind::Exec };
    let supposed = Supposed { now: SystemClock.now(), from: Some([10, 0, 0, 1].into()) };
    match policy::explain(&CONFIG, &somebody, &request, supposed) {
        Ok(decision) => assert_eq!(decision.identity, identity),
        Err(denial) => {
            let text = denial.to_string();
            assert!(text.len() < 4096, "{} bytes", text.len());
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        }
    }
});
