// A real S3 server on loopback, behind a layer that goes wrong on purpose. Also part of the integration tests, which
// are another crate: nothing of ours is used here.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

pub const ACCESS_KEY: &str = "AKIDTEST";
pub const SECRET_KEY: &str = "not-a-secret/of-anybody+0123456789";
pub const BUCKET: &str = "logs";

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status, and not done.
    Status(u16),
    /// It is done, and answered with this status.
    DoneBut(u16),
    /// It is not answered.
    Hang,
    /// It is answered after this time.
    Slow(Duration),
    /// The connection ends when some of its body was read.
    Reset,
    /// It is done, and the connection ends before the answer.
    DoneButReset,
    /// Half of the answer's body comes, and then nothing.
    Truncated,
    /// The answer has an ETag that nobody ever gave. Of a part: whoever finishes the upload with it is refused.
    WrongEtag,
    /// The answer has a checksum of something else.
    WrongChecksum,
    /// A byte of the answer's body is another.
    WrongBody,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
}

impl Seen {
    /// Whether it is this method on a key that ends so.
    pub fn is(&self, method: Method, ends: &str) -> bool {
        self.method == method && self.path.ends_with(ends)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

type Wanted = Box<dyn Fn(&Seen) -> bool + Send + Sync>;

struct Planned {
    wanted: Wanted,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct Plan {
    faults: VecDeque<Planned>,
    seen: Vec<Seen>,
    down: bool,
    /// Parts, as number and upload, whose ETag nobody was told.
    untold: BTreeSet<String>,
}

/// A server with one bucket. Stopped when dropped.
pub struct Server {
    address: SocketAddr,
    root: tempfile::TempDir,
    plan: Arc<Mutex<Plan>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    pub async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let files = s3s_fs::FileSystem::new(root.path()).unwrap();
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, service, Arc::clone(&plan)));
        Self {
            address,
            root,
            plan,
            serving,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` requests that `wanted` likes go wrong.
    pub fn fail(
        &self,
        fault: Fault,
        times: usize,
        wanted: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    ) {
        let wanted = Box::new(wanted);
        self.plan.lock().unwrap().faults.push_back(Planned {
            wanted,
            fault,
            times,
        });
    }

    /// From now on connections are closed at once, or no more.
    pub fn set_down(&self, down: bool) {
        self.plan.lock().unwrap().down = down;
    }

    /// All requests so far, answered or not.
    pub fn seen(&self) -> Vec<Seen> {
        self.plan.lock().unwrap().seen.clone()
    }

    pub fn forget_seen(&self) {
        self.plan.lock().unwrap().seen.clear();
    }

    /// Whether there are faults that nobody has met.
    pub fn is_waiting_to_fail(&self) -> bool {
        !self.plan.lock().unwrap().faults.is_empty()
    }

    /// Where an object lies as a file.
    pub fn object(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }

    /// The keys of all objects, sorted.
    pub fn keys(&self) -> Vec<String> {
        let bucket = self.root.path().join(BUCKET);
        let mut found = Vec::new();
        let mut folders = vec![bucket.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&bucket).unwrap();
                    found.push(key.to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// Uploads that were neither finished nor given up, and the files of their parts.
    pub fn left_over(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".upload")).collect()
    }
}

async fn serve(listener: TcpListener, service: S3Service, plan: Arc<Mutex<Plan>>) {
    // Dropped with this task: whoever stops the server stops its connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        if plan.lock().unwrap().down {
            continue;
        }
        let (service, plan) = (service.clone(), Arc::clone(&plan));
        connections.spawn(async move {
            let answer =
                service_fn(move |request| answer(service.clone(), Arc::clone(&plan), request));
            let server = auto::Builder::new(TokioExecutor::new());
            // It ends badly when it is to.
            drop(server.serve_connection(TokioIo::new(socket), answer).await);
        });
    }
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

async fn answer(
    service: S3Service,
    plan: Arc<Mutex<Plan>>,
    request: Request<Incoming>,
) -> Result<Answer, std::io::Error> {
    let part = request.uri().query().unwrap_or_default().to_owned();
    let fault = {
        let mut plan = plan.lock().unwrap();
        let seen = Seen {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
        };
        plan.seen.push(seen.clone());
        if plan.down {
            return Err(reset());
        }
        let found = plan.faults.iter().position(|it| (it.wanted)(&seen));
        let fault = found.map(|at| {
            let planned = &mut plan.faults[at];
            planned.times -= 1;
            let fault = planned.fault;
            if planned.times == 0 {
                plan.faults.remove(at);
            }
            fault
        });
        // As S3 does, and the server behind this one does not: parts are known by their ETags.
        let upload = |untold: &String| part.starts_with("uploadId") && untold.ends_with(&part);
        if seen.method == Method::POST && plan.untold.iter().any(upload) {
            return Ok(refusal(400));
        }
        if seen.method == Method::PUT && part.starts_with("partNumber") {
            match fault {
                Some(Fault::WrongEtag) => plan.untold.insert(part),
                _ => plan.untold.remove(&part),
            };
        }
        fault
    };
    match fault {
        Some(Fault::Status(status)) => return Ok(refusal(status)),
        Some(Fault::Hang) => std::future::pending::<()>().await,
        Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
        Some(Fault::Reset) => {
            let mut body = request.into_body();
            drop(body.frame().await);
            return Err(reset());
        }
        _ => {}
    }
    let answered = hyper::service::Service::call(&service, request).await;
    let (mut head, body) = answered.map_err(|_| reset())?.into_parts();
    let body = body.collect().await.map_err(|_| reset())?.to_bytes();
    match fault {
        Some(Fault::DoneBut(status)) => return Ok(refusal(status)),
        Some(Fault::DoneButReset) => return Err(reset()),
        Some(Fault::WrongEtag) => {
            head.headers.insert("etag", "\"0000\"".parse().unwrap());
        }
        Some(Fault::WrongChecksum) => {
            let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            head.headers
                .insert("x-amz-checksum-sha256", other.parse().unwrap());
        }
        Some(Fault::Truncated) => return Ok(truncated(head, body)),
        Some(Fault::WrongBody) => {
            let mut body = body.to_vec();
            if let Some(byte) = body.first_mut() {
                *byte ^= 1;
            }
            return Ok(Response::from_parts(head, full(body.into())));
        }
        _ => {}
    }
    Ok(Response::from_parts(head, full(body)))
}

fn full(body: Bytes) -> BoxBody<Bytes, std::io::Error> {
    Full::new(body)
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// The head promises all of it.
fn truncated(mut head: http::response::Parts, body: Bytes) -> Answer {
    let length = body.len();
    head.headers
        .insert("content-length", length.to_string().parse().unwrap());
    let half = Ok(Frame::data(body.slice(..length / 2)));
    let frames = futures_util::stream::iter([half, Err(reset())]);
    let body = http_body_util::StreamBody::new(frames);
    Response::from_parts(head, BodyExt::boxed(body))
}

fn refusal(status: u16) -> Answer {
    let code = match status {
        400 => "InvalidPart",
        403 => "AccessDenied",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code><Message>a test</Message></Error>");
    let mut response = Response::new(full(body.into()));
    *response.status_mut() = status.try_into().unwrap();
    response
}

fn reset() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}
