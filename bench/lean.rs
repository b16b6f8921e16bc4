//! A client without a process of its own: what it measures is the servers, where `ssh` takes longer to start and to
//! compute its keys than the faster one of them takes for everything.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use russh::client::{self, Handle, Handler};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelMsg, Preferred, cipher, kex};

use super::ssh::Target;

/// Nobody waits longer for a credential.
const LIMIT: Duration = Duration::from_secs(30);

/// One thread, one login at a time.
pub(crate) struct LeanClient {
    runtime: tokio::runtime::Runtime,
    config: Arc<client::Config>,
}

impl LeanClient {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            config: config(),
        })
    }

    /// Milliseconds from connecting to the last byte of the command's output and its exit status.
    pub(crate) fn time(&self, target: &Target, line: &str) -> anyhow::Result<f64> {
        let login = Login::of(target)?;
        let began = Instant::now();
        let run = async { tokio::time::timeout(LIMIT, self.run(&login, line)).await };
        self.runtime
            .block_on(run)
            .context("no answer within 30 s")??;
        Ok(began.elapsed().as_secs_f64() * 1000.0)
    }

    async fn run(&self, login: &Login, line: &str) -> anyhow::Result<()> {
        let session = login.connect(Arc::clone(&self.config)).await?;
        let mut channel = session.channel_open_session().await?;
        channel.exec(true, line).await?;
        let (mut printed, mut status) = (0, None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => printed += data.len(),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
        if status != Some(0) || printed == 0 {
            bail!("`{line}` ended with {status:?} after {printed} bytes");
        }
        Ok(())
    }
}

/// As `ssh` is told, see there.
pub(crate) fn config() -> Arc<client::Config> {
    Arc::new(client::Config {
        preferred: Preferred {
            kex: Cow::Borrowed(&[kex::CURVE25519]),
            cipher: Cow::Borrowed(&[cipher::CHACHA20_POLY1305]),
            ..Preferred::DEFAULT
        },
        nodelay: true,
        ..client::Config::default()
    })
}

/// What a client knows before it connects.
#[derive(Clone)]
pub(crate) struct Login {
    name: String,
    port: u16,
    key: Arc<PrivateKey>,
    host: HostKey,
}

impl Login {
    pub(crate) fn of(target: &Target) -> anyhow::Result<Self> {
        Ok(Self {
            name: target.login.clone(),
            port: target.port,
            key: Arc::new(russh::keys::load_secret_key(&target.key, None)?),
            host: HostKey::of(target)?,
        })
    }

    /// A connection on which somebody is proven.
    pub(crate) async fn connect(
        &self,
        config: Arc<client::Config>,
    ) -> anyhow::Result<Handle<HostKey>> {
        let address = ("127.0.0.1", self.port);
        let mut session = client::connect(config, address, self.host.clone()).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(&self.key), None);
        let proven = session.authenticate_publickey(&self.name, key).await?;
        ensure!(proven.success(), "{} does not know the key", self.name);
        Ok(session)
    }
}

/// What the server must prove to be.
#[derive(Clone)]
pub(crate) struct HostKey(PublicKey);

impl HostKey {
    fn of(target: &Target) -> anyhow::Result<Self> {
        let known = std::fs::read_to_string(&target.known_hosts)?;
        let (_host, key) = known.split_once(' ').context("no host key is known")?;
        Ok(Self(PublicKey::from_openssh(key)?))
    }
}

/// Whatever the server is: for who only disturbs it.
#[derive(Clone, Copy)]
pub(crate) struct AnyHost;

impl Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

impl Handler for HostKey {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.0.key_data() == key.key_data(),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }
}
