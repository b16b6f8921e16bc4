//! What the command line says, as snapshots. `TRYCMD=overwrite cargo test --test cmd` writes them anew.

#[test]
fn words() {
    trycmd::TestCases::new()
        .env("BASTION_AUDIT_CONFIG", "/nonexistent")
        .env("RUST_BACKTRACE", "0")
        .case("tests/cmd/*.trycmd");
}
