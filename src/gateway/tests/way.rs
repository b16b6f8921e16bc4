//! What reaches the API server, and what does not.

use super::*;
use crate::mint::Impersonated;
use crate::recording::requests::Mark;

/// Answers with what it was asked, so that a test can look at it.
async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut said = format!("{} {}\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        said.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    said.push_str(&format!("[{} bytes]", body.len()));
    Response::new(Full::from(said))
}

#[tokio::test]
async fn a_request_goes_on_in_the_sessions_name_and_in_no_other() {
    let bench = Bench::new(http(echo)).await;
    for http2 in [false, true] {
        let mut request = get("/api/v1/pods?limit=5");
        if http2 {
            *request.uri_mut() = "https://kubernetes/api/v1/pods?limit=5".parse().unwrap();
            request.headers_mut().clear();
        }
        for (name, value) in [
            ("authorization", "Bearer mine"),
            ("audit-id", "mine"),
            ("x-forwarded-for", "203.0.113.9"),
            ("user-agent", "kubectl/v1.36"),
            ("accept", "application/json"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = match http2 {
            true => bench.http2().await.send_request(request).await,
            false => bench.http1().await.send_request(request).await,
        };
        let said = text(answer.unwrap()).await;
        assert!(said.starts_with("GET /api/v1/pods?limit=5\n"), "{said}");
        assert!(
            said.contains(&format!("authorization: Bearer {TOKEN}\n")),
            "{said}"
        );
        assert!(said.contains("accept: application/json\n"), "{said}");
        let session = bench.recording.id().to_string();
        let agent = said
            .lines()
            .find(|line| line.starts_with("user-agent: kubectl/v1.36 "))
            .unwrap();
        assert!(
            agent.contains("identity=operator-a") && agent.contains(&session),
            "{agent}"
        );
        assert!(
            !said.contains("mine") && !said.contains("203.0.113.9") && !said.contains("daemons"),
            "{said}"
        );
        let record = bench.record().await;
        let (intent, _) = record.last().unwrap();
        assert!(
            said.contains(&format!("audit-id: {}\n", intent.audit_id)),
            "{said}"
        );
        assert_eq!(
            (intent.info.verb.as_str(), intent.info.resource.as_str()),
            ("list", "pods")
        );
        assert_eq!(intent.user_agent.as_deref(), Some("kubectl/v1.36"));
    }
}

#[tokio::test]
async fn a_renewed_credential_is_in_the_next_request() {
    let bench = Bench::new(http(echo)).await;
    let mut client = bench.http1().await;
    assert!(
        text(client.send_request(get("/api")).await.unwrap())
            .await
            .contains(TOKEN)
    );
    bench
        .renew
        .send_replace(Acting::Credential(Arc::new(Credential::new(
            "renewed".to_owned(),
        ))));
    let said = text(client.send_request(get("/api")).await.unwrap()).await;
    assert!(
        said.contains("Bearer renewed\n") && !said.contains(TOKEN),
        "{said}"
    );
}

fn impersonated(session: crate::session::SessionId) -> Acting {
    let named = |groups: &[&str]| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Impersonated::new("jane@corp.example".into(), groups, session)
    };
    // Nobody of Kubernetes' own, and nobody whose groups the API server would choose.
    assert_eq!(named(&["corp:a", "system:masters"]), None);
    assert_eq!(named(&[]), None);
    let own = Impersonated::new("system:admin".into(), vec!["a".into()], session);
    assert_eq!(own, None);
    Acting::Impersonating(Arc::new(named(&["corp:a", "corp:b"]).unwrap()))
}

#[tokio::test]
async fn on_the_daemons_own_connection_nothing_goes_without_a_name() {
    let way = api_server_of(http(echo), Upstream::of_the_daemon).await;
    let state = TempDir::new().unwrap();
    let store = Arc::new(FsStore::new(state.path()));
    let bench = Bench::over(state, store, way).await;
    let mut client = bench.http1().await;
    // A session that has a credential is not the daemon.
    let answer = client.send_request(get("/api")).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(message(answer).await.contains("open a new session"));

    bench.renew.send_replace(impersonated(bench.recording.id()));
    let said = text(client.send_request(get("/api")).await.unwrap()).await;
    for header in [
        "authorization: Bearer the-daemons-own-token\n".to_owned(),
        "impersonate-user: jane@corp.example\n".to_owned(),
        "impersonate-group: corp:a\nimpersonate-group: corp:b\n".to_owned(),
        format!(
            "impersonate-extra-bastion-audit.dev%2fsession-id: {}\n",
            bench.recording.id()
        ),
    ] {
        assert!(said.contains(&header), "{header} is not in {said}");
    }
    assert!(!said.contains(TOKEN), "{said}");
    for header in [
        "Impersonate-User: x",
        "Impersonate-Group: x",
        "impersonate-extra-a: x",
    ] {
        let request =
            format!("GET /api HTTP/1.1\r\nHost: k\r\n{header}\r\nConnection: close\r\n\r\n");
        let said = bench.say(request.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    }
}

#[tokio::test]
async fn nobody_is_named_on_a_connection_that_is_nobodys() {
    let bench = Bench::new(http(echo)).await;
    bench.renew.send_replace(impersonated(bench.recording.id()));
    let mut client = bench.http1().await;
    let answer = client.send_request(get("/api")).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(message(answer).await.contains("open a new session"));
}

#[tokio::test]
async fn ten_thousand_requests_go_down_one_connection() {
    let bench = Bench::new(http(|_| async { Response::new(Full::from("{}")) })).await;
    let mut client = bench.http1().await;
    for _ in 0..10_000 {
        client.ready().await.unwrap();
        let answer = client.send_request(get("/api/v1/pods")).await.unwrap();
        assert_eq!(text(answer).await, "{}");
    }
    let record = bench.record().await;
    assert_eq!(record.len(), 10_000);
    assert!(record.iter().all(|(_, done)| {
        done.as_ref()
            .is_some_and(|done| done.outcome.status == Some(200))
    }));
}

#[tokio::test]
async fn a_small_body_is_in_the_intent_and_a_large_one_in_the_outcome() {
    let bench = Bench::new(http(echo)).await;
    let mut client = bench.http1().await;
    let post = |body: String| {
        let mut request = Request::post("/api/v1/namespaces/a/configmaps").header("host", "k");
        request = request.header("content-type", "application/json");
        request.body(Full::<Bytes>::from(body)).unwrap()
    };
    let small = "{\"kind\":\"ConfigMap\"}".to_owned();
    let large = "x".repeat(200_000);
    for body in [small.clone(), large.clone()] {
        let length = body.len();
        client.ready().await.unwrap();
        let said = text(client.send_request(post(body)).await.unwrap()).await;
        assert!(said.ends_with(&format!("[{length} bytes]")), "{said}");
    }
    let record = bench.record().await;
    let (first, second) = (&record[0], &record[1]);
    assert_eq!(first.0.body.as_ref().unwrap().kept, small);
    assert_eq!(
        first.1.as_ref().unwrap().outcome.bytes_in,
        small.len() as u64
    );
    assert!(second.0.body.is_none());
    let done = &second.1.as_ref().unwrap().outcome;
    let kept = done.body.as_ref().unwrap();
    assert_eq!((kept.bytes, kept.truncated), (large.len() as u64, true));
    assert_eq!(done.bytes_in, large.len() as u64);
}

#[tokio::test]
async fn what_is_refused_never_gets_there_and_is_on_record() {
    let bench = Bench::new(http(|_| async { panic!("it got there") })).await;
    let ask = |more: &str, target: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: k\r\nConnection: close\r\n{more}\r\n")
    };
    let cases = [
        (
            ask("Impersonate-User: admin\r\n", "/api"),
            "403",
            "a session acts as its own role only",
        ),
        (
            ask("X-Remote-User: admin\r\n", "/api"),
            "403",
            "front proxies",
        ),
        (ask("", "/api//v1/pods"), "400", "empty segment"),
        (ask("", "/api/v1/namespaces/a/pods/b/%65xec"), "400", "%65"),
        (ask("", "/api/../secrets"), "400", "dot segment"),
        (ask("", "/api?a=1;b=2"), "400", "semicolon"),
        (ask("", "https://elsewhere/api"), "400", "no forward proxy"),
        (ask("", "http://kubernetes/api"), "400", "no forward proxy"),
        (
            "CONNECT kubernetes:443 HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n".to_owned(),
            "405",
            "CONNECT",
        ),
        (
            "TRACE /api HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n".to_owned(),
            "405",
            "TRACE",
        ),
        (
            ask("Upgrade: websocket\r\n", "/api/v1/pods"),
            "403",
            "exec, attach and port-forward",
        ),
        (
            ask("Upgrade: h2c\r\n", "/api/v1/namespaces/a/pods/b/exec"),
            "400",
            "Connection: Upgrade",
        ),
        (
            ask(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                "/api",
            ),
            "400",
            "both Content-Length",
        ),
        (
            ask(&format!("X: {}\r\n", "a".repeat(1 << 20)), "/api"),
            "431",
            "48 KiB",
        ),
        (
            ask("Content-Length: 3\r\nContent-Length: 3\r\n", "/api"),
            "400",
            "not one number",
        ),
        ("GET /api HTTP/1.0\r\n\r\n".to_owned(), "400", "HTTP/1.1"),
    ];
    for (said, code, why) in &cases {
        let answer = bench.say(said.as_bytes()).await;
        let shown = said.get(..80).unwrap_or(said);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code} ")),
            "{shown}: {answer}"
        );
        assert!(
            answer.contains(why) && answer.contains("\"kind\":\"Status\""),
            "{shown}: {answer}"
        );
    }
    let record = bench.record().await;
    assert_eq!(record.len(), cases.len());
    for (intent, done) in record {
        let done = done.unwrap();
        assert!(intent.marks.contains(&Mark::Refused), "{intent:?}");
        assert!(
            done.outcome.error.is_some() && done.outcome.status.is_some_and(|status| status >= 400)
        );
    }
}

#[tokio::test]
async fn a_bearer_is_asked_for_where_anybody_could_connect() {
    let bench = Bench::new(http(echo)).await;
    let known = Admission::Bearer(Arc::new(|bearer: &str| bearer == "known"));
    for (said, status) in [
        (None, 401),
        (Some("Bearer other"), 401),
        (Some("Basic known"), 401),
        (Some("Bearer known"), 200),
    ] {
        let stream = bench.connect(&[b"http/1.1"], known.clone()).await;
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = get("/api");
        if let Some(said) = said {
            request
                .headers_mut()
                .insert("authorization", said.parse().unwrap());
        }
        let answer = client.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{said:?}");
        let text = text(answer).await;
        assert!(!text.contains("known\n"), "{text}");
    }
}
