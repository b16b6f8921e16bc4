//! Where the channels of an exec or attach are recorded, before they are passed on.

use super::broken::{Broken, Peer};
use super::journal::Journal;
use super::resize::Resizes;
use super::status::StatusText;
use super::tar::TarWatch;
use crate::gateway::websocket::Channel;
use crate::recording::requests::Direction;
use crate::recording::{Ending, OnRecord, OpenRecording, Stream};

/// What the client sends, on its way to the pod.
pub(super) struct InputTape {
    recording: OpenRecording,
    journal: Journal,
    resizes: Resizes,
    tar: Option<TarWatch>,
    ended: bool,
    /// Bytes of all channels.
    pub(super) bytes: u64,
}

/// What the pod sends, on its way to the client.
pub(super) struct OutputTape {
    recording: OpenRecording,
    journal: Journal,
    status: StatusText,
    tar: Option<TarWatch>,
    /// Whose end is not on record yet.
    held: [bool; 2],
    /// Bytes of all channels.
    pub(super) bytes: u64,
}

/// Both directions of a tape. With a terminal there are no files in it: a terminal changes bytes.
pub(super) fn tape(
    recording: &OpenRecording,
    journal: &Journal,
    tty: bool,
) -> (InputTape, OutputTape) {
    let watch = |direction| (!tty).then(|| TarWatch::new(direction));
    let input = InputTape {
        recording: recording.clone(),
        journal: journal.clone(),
        resizes: Resizes::default(),
        tar: watch(Direction::ToPod),
        ended: false,
        bytes: 0,
    };
    let output = OutputTape {
        recording: recording.clone(),
        journal: journal.clone(),
        status: StatusText::default(),
        tar: watch(Direction::FromPod),
        held: [false; 2],
        bytes: 0,
    };
    (input, output)
}

impl InputTape {
    /// Records bytes of a channel. They may be passed on when this returns.
    pub(super) async fn record(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), Broken> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        match channel {
            // Nothing said is nothing wrong: sides greet, and close, like that.
            _ if bytes.is_empty() => Ok(()),
            Channel::Stdin => {
                self.recording.input(bytes).await?;
                if let Some(tar) = &mut self.tar {
                    self.journal.watch(tar, bytes).await?;
                }
                Ok(())
            }
            Channel::Resize => {
                for size in self.resizes.push(bytes).ok_or(Broken::Resize)? {
                    self.recording.resize(size).await?;
                }
                Ok(())
            }
            Channel::Stdout | Channel::Stderr | Channel::Error => Err(Broken::WrongWay {
                from: Peer::Client,
                channel,
            }),
        }
    }

    /// Records that a channel ends.
    pub(super) async fn end(&mut self, channel: Channel) -> Result<(), Broken> {
        if channel == Channel::Stdin && !self.ended {
            self.ended = true;
            self.recording.input_end().await?;
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<(), Broken> {
        match self.tar.take() {
            Some(tar) => self.journal.finish(tar).await,
            None => Ok(()),
        }
    }
}

impl OutputTape {
    /// Records bytes of a channel. They may be passed on when this has returned and nothing is held back, or when
    /// what is has been settled.
    pub(super) async fn record(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), Broken> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        match channel {
            _ if bytes.is_empty() => Ok(()),
            Channel::Stdout => {
                self.output(Stream::Stdout, bytes).await?;
                if let Some(tar) = &mut self.tar {
                    self.journal.watch(tar, bytes).await?;
                }
                Ok(())
            }
            Channel::Stderr => self.output(Stream::Stderr, bytes).await,
            Channel::Error => match self.status.push(bytes) {
                true => Ok(()),
                false => Err(Broken::StatusTooLong),
            },
            Channel::Stdin | Channel::Resize => Err(Broken::WrongWay {
                from: Peer::Upstream,
                channel,
            }),
        }
    }

    async fn output(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Broken> {
        let on_record = self.recording.output_so_far(stream, bytes).await?;
        let [stdout, stderr] = &mut self.held;
        let held = match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        };
        *held = on_record == OnRecord::InPart;
        Ok(())
    }

    /// Whether the end of something is not on record yet, because it may be part of a credential.
    pub(super) fn is_holding(&self) -> bool {
        self.held != [false; 2]
    }

    /// Records the rest: all may be passed on when this returns.
    pub(super) async fn settle(&mut self) -> Result<(), Broken> {
        for (stream, held) in [Stream::Stdout, Stream::Stderr]
            .into_iter()
            .zip(&mut self.held)
        {
            if std::mem::take(held) {
                self.recording.settle(stream).await?;
            }
        }
        Ok(())
    }

    /// How the command ended, if the API server has said it.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.status.ending()
    }

    pub(super) async fn finish(&mut self) -> Result<(), Broken> {
        match self.tar.take() {
            Some(tar) => self.journal.finish(tar).await,
            None => Ok(()),
        }
    }
}
