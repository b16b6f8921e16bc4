//! How often a provider is asked about a code, whatever it says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Response, StatusCode, header};
use openidconnect::{
    Client, ClientId, DeviceAuthorizationResponse, DeviceCodeErrorResponseType,
    EmptyExtraDeviceAuthorizationFields, HttpResponse,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::client::{OidcClient, Published, Tokens};
use super::super::http::HttpError;
use super::super::polling::{Ended, Polled, poll};
use super::hostile::discovery;
use crate::clock;

/// What a provider says to the question of that number.
type Says = fn(usize) -> Result<HttpResponse, HttpError>;

/// What came of it, and when it was asked, in seconds since the beginning.
struct Came {
    of_it: Result<Tokens, Ended>,
    asked_at: Vec<u64>,
    after: u64,
}

impl Came {
    fn said(&self) -> Option<&DeviceCodeErrorResponseType> {
        match &self.of_it {
            Err(Ended::Said(Polled::ServerResponse(said))) => Some(said.error()),
            _ => None,
        }
    }

    fn is_late(&self) -> bool {
        matches!(self.of_it, Err(Ended::Late))
            || self.said() == Some(&DeviceCodeErrorResponseType::ExpiredToken)
    }
}

async fn polled(interval: Value, within: u64, says: Says) -> Came {
    let published: Published = serde_json::from_value(discovery("https://idp.example")).unwrap();
    let client: OidcClient =
        Client::from_provider_metadata(published, ClientId::new("b".to_owned()), None);
    let answer = json!({
        "device_code": "d", "user_code": "u", "verification_uri": "https://idp.example/d",
        "expires_in": 1_000_000_000_000_u64, "interval": interval,
    });
    let answer: DeviceAuthorizationResponse<EmptyExtraDeviceAuthorizationFields> =
        serde_json::from_value(answer).unwrap();
    let request = client.exchange_device_access_token(&answer).unwrap();
    let began = clock::monotonic();
    let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let ask = move |_| -> std::pin::Pin<Box<dyn Future<Output = _> + Send>> {
        let number = {
            let mut noted = noted.lock().unwrap();
            noted.push(clock::monotonic());
            noted.len()
        };
        Box::pin(async move { says(number) })
    };
    let of_it = poll(request, began + Duration::from_secs(within), Box::new(ask)).await;
    let since = |at: Instant| at.duration_since(began).as_secs();
    let asked_at = asked.lock().unwrap().iter().copied().map(since).collect();
    Came {
        of_it,
        asked_at,
        after: since(clock::monotonic()),
    }
}

fn says(status: StatusCode, body: &str) -> Result<HttpResponse, HttpError> {
    let response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    Ok(response.body(body.as_bytes().to_vec()).unwrap())
}

fn error(error: &str) -> Result<HttpResponse, HttpError> {
    says(
        StatusCode::BAD_REQUEST,
        &json!({ "error": error }).to_string(),
    )
}

fn pending(_: usize) -> Result<HttpResponse, HttpError> {
    error("authorization_pending")
}

fn tokens() -> Result<HttpResponse, HttpError> {
    says(
        StatusCode::OK,
        r#"{"access_token": "a", "token_type": "Bearer"}"#,
    )
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_says_anything_is_asked_until_the_attempt_is_over() {
    let came = polled(json!(5), 300, pending).await;
    assert!(came.is_late(), "{:?}", came.of_it);
    let expected: Vec<u64> = (0..60).map(|n| n * 5).collect();
    assert_eq!(came.asked_at.get(..60), Some(&expected[..]));
    assert!((60..=61).contains(&came.asked_at.len()));
    assert_eq!(came.after, 300);
    // Were there no such end, there would be another.
    let came = polled(json!(5), 1_000_000, pending).await;
    assert!(matches!(came.of_it, Err(Ended::Unanswered(why)) if why.contains("too often")));
    assert_eq!(came.asked_at.len(), 64);
}

#[tokio::test(start_paused = true)]
async fn no_provider_is_asked_more_often_than_every_five_seconds_and_as_seldom_as_it_likes() {
    for interval in [json!(0), json!(1), json!(null), json!(5)] {
        let came = polled(interval.clone(), 31, pending).await;
        assert_eq!(
            came.asked_at,
            [0, 5, 10, 15, 20, 25, 30],
            "{interval}: {:?}",
            came.of_it
        );
    }
    let came = polled(json!(20), 59, pending).await;
    assert_eq!(came.asked_at, [0, 20, 40]);
    // It is never waited for beyond the attempt.
    for interval in [json!(1_000_000_000), json!(u64::MAX)] {
        let came = polled(interval, 300, pending).await;
        assert_eq!((came.asked_at.as_slice(), came.after), (&[0][..], 300));
        assert!(came.is_late());
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_says_slow_down_is_asked_five_seconds_later_each_time() {
    let came = polled(json!(5), 300, |number| match number {
        1 | 2 => error("slow_down"),
        3 => error("authorization_pending"),
        4 => error("slow_down"),
        _ => tokens(),
    })
    .await;
    assert!(came.of_it.is_ok());
    assert_eq!(came.asked_at, [0, 10, 25, 40, 60]);
    let came = polled(json!(5), 300, |_| error("slow_down")).await;
    assert!(came.is_late());
    assert!(came.asked_at.len() < 12, "{:?}", came.asked_at);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_has_said_no_is_not_asked_again() {
    let second = |text: &'static str| match text {
        "access_denied" => {
            (|number| match number {
                1 => pending(1),
                _ => error("access_denied"),
            }) as Says
        }
        "expired_token" => |number| match number {
            1 => pending(1),
            _ => error("expired_token"),
        },
        _ => |number| match number {
            1 => pending(1),
            _ => error("invalid_grant"),
        },
    };
    for said in ["access_denied", "expired_token", "invalid_grant"] {
        let came = polled(json!(5), 300, second(said)).await;
        assert_eq!(came.said().map(AsRef::as_ref), Some(said));
        assert_eq!(came.asked_at, [0, 5]);
    }
    for nonsense in [
        (|_| says(StatusCode::OK, "{")) as Says,
        |_| says(StatusCode::OK, ""),
        |_| says(StatusCode::BAD_GATEWAY, "<html>"),
        |_| says(StatusCode::BAD_REQUEST, "[]"),
    ] {
        let came = polled(json!(5), 300, nonsense).await;
        assert!(matches!(came.of_it, Err(Ended::Said(_))));
        assert_eq!(came.asked_at, [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_does_not_answer_is_asked_once_more_and_later() {
    let came = polled(json!(5), 300, |_| Err(HttpError::Body)).await;
    assert!(
        matches!(&came.of_it, Err(Ended::Unanswered(why)) if why.contains("longer than")),
        "{:?}",
        came.of_it
    );
    assert_eq!(came.asked_at, [0, 10]);
    // One that is back is asked on, and not more often than before.
    let came = polled(json!(5), 300, |number| match number {
        1 => Err(HttpError::Slow),
        2 => pending(2),
        3 => Err(HttpError::Slow),
        _ => tokens(),
    })
    .await;
    assert!(came.of_it.is_ok());
    assert_eq!(came.asked_at, [0, 10, 20, 40]);
}
