#![allow(missing_docs)]
use super::request_info::RequestInfo;
use crate::recording::requests::Mark;
use http::Method;
pub fn marks(_: &Method, _: &RequestInfo, _: &[(String, String)]) -> Vec<Mark> {
    vec![]
}
pub fn dry_run(_: &[(String, String)]) -> bool {
    false
}
