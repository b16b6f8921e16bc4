//! An SSH client that does what OpenSSH's refuses to, such as odd login names.

use std::sync::Arc;

use russh::keys::{Certificate, PrivateKeyWithHashAlg, load_secret_key};
use russh::{ChannelMsg, client};

use super::bastion::Bastion;

/// A connection on which somebody is proven.
pub(crate) struct SshClient {
    handle: client::Handle<Trusting>,
}

/// How a command over [`SshClient`] ended, as the protocol says it.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Option<u32>,
    pub(crate) signal: Option<String>,
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        _key: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

impl SshClient {
    /// Logs in; `None` if the key proves nobody.
    pub(crate) async fn login(bastion: &Bastion, who: &str, login: &str) -> Option<Self> {
        let config = Arc::new(client::Config::default());
        let address = ("127.0.0.1", bastion.port());
        let mut handle = client::connect(config, address, Trusting).await.unwrap();
        let key = load_secret_key(bastion.path().join("keys").join(who), None).unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let answer = handle.authenticate_publickey(login, key).await.unwrap();
        answer.success().then_some(Self { handle })
    }

    /// Logs in by the certificate of somebody's key, whatever it says; `None` if it proves nobody.
    pub(crate) async fn login_certified(bastion: &Bastion, who: &str, login: &str) -> Option<Self> {
        let config = Arc::new(client::Config::default());
        let address = ("127.0.0.1", bastion.port());
        let mut handle = client::connect(config, address, Trusting).await.unwrap();
        let keys = bastion.path().join("keys");
        let key = load_secret_key(keys.join(who), None).unwrap();
        let certificate = std::fs::read_to_string(keys.join(format!("{who}-cert.pub"))).unwrap();
        let certificate = Certificate::from_openssh(&certificate).unwrap();
        let answer = handle
            .authenticate_openssh_cert(login, Arc::new(key), certificate)
            .await
            .unwrap();
        answer.success().then_some(Self { handle })
    }

    /// A session channel on which nothing is asked for.
    pub(crate) async fn idle_channel(&self) -> russh::Channel<client::Msg> {
        self.handle.channel_open_session().await.unwrap()
    }

    /// Runs one command to its end.
    pub(crate) async fn run(&self, command: &str) -> Ended {
        let mut channel = self.handle.channel_open_session().await.unwrap();
        channel.exec(true, command).await.unwrap();
        channel.eof().await.unwrap();
        let mut ended = Ended::default();
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => ended.stdout.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, ext: 1 } => ended.stderr.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => ended.status = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    ended.signal = Some(format!("{signal_name:?}"));
                }
                _ => {}
            }
        }
        ended
    }
}
