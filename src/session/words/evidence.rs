//! x
use super::*;
#[derive(Debug, clap::Args)]
pub(super) struct Sessions {}
#[derive(Debug, clap::Args)]
pub(super) struct Replay {}
pub(super) async fn sessions(_: &Monitor, _: &Caller, _: &Sessions) -> Result<String, String> {
    todo!()
}
pub(super) async fn show(_: &Monitor, _: &Caller, _: &str) -> Result<String, String> {
    todo!()
}
pub(super) async fn fetch(_: &Monitor, _: &Caller, _: &str, _: Client) {
    todo!()
}
pub(super) async fn replay(_: &Monitor, _: &Caller, _: &Open, _: &Replay, _: Client) {
    todo!()
}
