//! The bucket itself, against a real server.

use ::http::Method;

use super::testing::{Fault, Server};
use super::*;
use crate::store::testing::State;

fn key(text: &str) -> object_store::path::Path {
    object_store::path::Path::from(text)
}

#[tokio::test]
async fn a_key_is_written_once() {
    let (state, server) = (State::new(), Server::start().await);
    let bucket = state.bucket(&server);
    let key = key("main/x");
    assert_eq!(bucket.stat(&key).await.unwrap(), None);
    assert_eq!(
        bucket.put_new(&key, "one".into()).await.unwrap(),
        Put::Taken
    );
    assert_eq!(
        bucket.put_new(&key, "two".into()).await.unwrap(),
        Put::There
    );
    let stat = bucket.stat(&key).await.unwrap().unwrap();
    assert_eq!(stat.bytes, 3);
    assert!(stat.checksum.is_some());
    assert_eq!(bucket.read(&key, 1..3).await.unwrap(), "ne");
    assert!(
        bucket.read(&key, 1..9).await.is_err(),
        "less than was asked for"
    );
    bucket.delete(&key).await.unwrap();
    bucket.delete(&key).await.unwrap();
    assert_eq!(bucket.stat(&key).await.unwrap(), None);
}

#[tokio::test]
async fn what_the_server_refuses_and_what_it_cannot_do_now_are_told_apart() {
    let (state, server) = (State::new(), Server::start().await);
    let bucket = state.bucket(&server);
    let key = key("main/x");
    server.fail(Fault::Status(403), 1, |it| it.method == Method::PUT);
    let refused = bucket.put_new(&key, "x".into()).await.unwrap_err();
    assert!(
        matches!(refused, BucketError::Forbidden { .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("403 Forbidden, AccessDenied"),
        "{refused}"
    );
    for fault in [Fault::Status(500), Fault::Reset, Fault::Hang] {
        server.fail(fault, 3, |it| it.method == Method::PUT);
        let failed = bucket.put_new(&key, "x".into()).await.unwrap_err();
        assert!(
            matches!(failed, BucketError::Unavailable { .. }),
            "{fault:?}: {failed}"
        );
        while server.is_waiting_to_fail() {
            drop(bucket.put_new(&key, "x".into()).await);
        }
    }
    server.set_down(true);
    let gone = bucket.stat(&key).await.unwrap_err();
    assert!(matches!(gone, BucketError::Unavailable { .. }), "{gone}");
}

#[tokio::test]
async fn keys_that_were_rotated_are_taken_up() {
    let (state, server) = (State::new(), Server::start().await);
    let bucket = state.bucket(&server);
    assert_eq!(bucket.stat(&key("main/x")).await.unwrap(), None);
    let file = state.settings(&server).credentials_file.unwrap();
    std::fs::write(&file, "aws_access_key_id = A\naws_secret_access_key = B\n").unwrap();
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::time::resume();
    let refused = bucket.stat(&key("main/x")).await.unwrap_err();
    assert!(
        matches!(refused, BucketError::Forbidden { .. }),
        "{refused}"
    );
}
