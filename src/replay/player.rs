//! Plays a recording on a terminal, as it was seen.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::error::PlayError;
use super::keys::Key;
use super::stage::Stage;
use crate::clock;
use crate::messages::WindowSize;
use crate::recording::{Event, Happening, Keyframe, Reader, Recordings, find_keyframe};
use crate::session::SessionId;

/// How far an arrow key jumps.
const JUMP: Duration = Duration::from_secs(5);

/// A jump ahead that is not read through if there is a shorter way.
const FAR: Duration = Duration::from_secs(20);

/// The slowest and the fastest.
const SPEEDS: std::ops::RangeInclusive<f64> = 1.0 / 16.0..=64.0;

/// How to play.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// 1 is as it was.
    pub speed: f64,
    /// Nothing happens for at most so long.
    pub idle_limit: Option<Duration>,
    /// Where to begin, from the start.
    pub at: Duration,
    /// Requests to the cluster are told of.
    pub requests: bool,
    /// The reader's terminal.
    pub terminal: WindowSize,
}

impl Default for Play {
    fn default() -> Self {
        Self {
            speed: 1.0,
            idle_limit: None,
            at: Duration::ZERO,
            requests: false,
            terminal: WindowSize { cols: 80, rows: 24 },
        }
    }
}

/// Plays a recording until its end, or until [`Key::Quit`]. When `keys` is closed it plays on without. Whatever was
/// played, the terminal is left as a shell expects it.
pub async fn play(
    recordings: &Recordings,
    id: SessionId,
    out: &mut (dyn AsyncWrite + Send + Unpin),
    keys: &mut mpsc::Receiver<Key>,
    how: Play,
) -> Result<(), PlayError> {
    let mut player = Player::open(recordings, id, how).await?;
    let mut first = String::new();
    player.stage.begin(&mut first);
    write(out, &first).await?;
    if how.at > Duration::ZERO {
        player.seek(how.at, out).await?;
    }

    let result = player.run(out, keys).await;

    let mut last = String::new();
    player.stage.leave(&mut last);
    result.and(write(out, &last).await)
}

struct Player<'a> {
    recordings: &'a Recordings,
    id: SessionId,
    reader: Reader<tokio::io::BufReader<Box<dyn tokio::io::AsyncRead + Send + Sync + Unpin>>>,
    next: Option<Event>,
    /// Where in the recording.
    position: Duration,
    /// What is left of the pause before the next event.
    gap: Duration,
    paused: bool,
    speed: f64,
    how: Play,
    stage: Stage,
}

impl<'a> Player<'a> {
    async fn open(recordings: &'a Recordings, id: SessionId, how: Play) -> Result<Self, PlayError> {
        let reader = Reader::open(recordings.open(id).await?.cast().await?).await?;
        let stage = Stage::new(reader.header(), how.terminal, how.requests);
        let speed = if how.speed.is_finite() {
            how.speed
        } else {
            1.0
        };
        let mut player = Self {
            recordings,
            id,
            reader,
            next: None,
            position: Duration::ZERO,
            gap: Duration::ZERO,
            paused: false,
            speed: speed.clamp(*SPEEDS.start(), *SPEEDS.end()),
            how,
            stage,
        };
        player.advance().await?;
        Ok(player)
    }

    async fn run(
        &mut self,
        out: &mut (dyn AsyncWrite + Send + Unpin),
        keys: &mut mpsc::Receiver<Key>,
    ) -> Result<(), PlayError> {
        let mut keys_open = true;
        while self.next.is_some() {
            let began = clock::monotonic();
            let wait = self.gap.div_f64(self.speed);
            let key = tokio::select! {
                biased;
                key = keys.recv(), if keys_open => key,
                () = tokio::time::sleep(wait), if !self.paused => {
                    self.show_next(out).await?;
                    continue;
                }
                // Nobody could end the pause.
                else => { self.paused = false; continue }
            };
            if !self.paused {
                let passed = clock::monotonic()
                    .saturating_duration_since(began)
                    .mul_f64(self.speed)
                    .min(self.gap);
                self.gap = self.gap.saturating_sub(passed);
                self.position = self.position.saturating_add(passed);
            }
            match key {
                Some(Key::Quit) => return Ok(()),
                Some(key) => self.obey(key, out).await?,
                None => keys_open = false,
            }
        }
        Ok(())
    }

    async fn obey(
        &mut self,
        key: Key,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<(), PlayError> {
        let mut text = String::new();
        match key {
            Key::Pause => {
                self.paused = !self.paused;
                if self.paused {
                    self.stage.status(&self.describe("paused"), &mut text);
                } else {
                    self.stage.redraw(&mut text);
                }
            }
            Key::Step => {
                if self.paused {
                    self.stage.redraw(&mut text);
                    write(out, &text).await?;
                    text.clear();
                    while self.next.is_some() && !self.show_next(out).await? {}
                    self.stage.status(&self.describe("paused"), &mut text);
                }
            }
            Key::Faster => self.speed = (self.speed * 2.0).min(*SPEEDS.end()),
            Key::Slower => self.speed = (self.speed / 2.0).max(*SPEEDS.start()),
            Key::Forward => self.seek(self.position.saturating_add(JUMP), out).await?,
            Key::Back => self.seek(self.position.saturating_sub(JUMP), out).await?,
            Key::Restart => self.seek(Duration::ZERO, out).await?,
            Key::Quit => {}
        }
        if self.paused && !matches!(key, Key::Pause | Key::Step) {
            self.stage.status(&self.describe("paused"), &mut text);
        }
        write(out, &text).await
    }

    fn describe(&self, what: &str) -> String {
        let seconds = self.position.as_secs();
        format!(
            " {what} at {}:{:02}, speed {}x | space: go on  .: step  arrows: 5 s  + -: speed  q: quit ",
            seconds / 60,
            seconds % 60,
            self.speed
        )
    }

    /// Shows the next event. Whether there was anything to see.
    async fn show_next(
        &mut self,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<bool, PlayError> {
        let Some(event) = self.next.take() else {
            return Ok(false);
        };
        self.position = event.at;
        let mut text = String::new();
        self.stage.show(&event.what, &mut text);
        write(out, &text).await?;
        self.advance().await?;
        Ok(!text.is_empty())
    }

    /// Goes to a moment, and draws what the terminal showed then.
    async fn seek(
        &mut self,
        to: Duration,
        out: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<(), PlayError> {
        if to < self.position || to.saturating_sub(self.position) > FAR {
            self.enter(to).await?;
        }
        let mut unseen = String::new();
        while let Some(event) = self.next.take_if(|event| event.at <= to) {
            // The last word of the recording is for the end of the replay.
            if matches!(event.what, Happening::End(_)) {
                self.next = Some(event);
                break;
            }
            self.position = event.at;
            self.stage.show(&event.what, &mut unseen);
            unseen.clear();
            self.advance().await?;
        }
        if let Some(next) = &self.next {
            self.position = to.min(next.at);
            self.gap = self.limited(next.at.saturating_sub(self.position));
        }
        let mut text = String::new();
        self.stage.redraw(&mut text);
        write(out, &text).await
    }

    /// Goes to where reading on to a moment is not far: to a keyframe, where there is one, or to the beginning.
    async fn enter(&mut self, to: Duration) -> Result<(), PlayError> {
        let stored = self.recordings.open(self.id).await?;
        let keyframe = match stored.keyframes().await? {
            Some(keyframes) => find_keyframe(keyframes, to).await?,
            None => None,
        };
        let at = |keyframe: &Keyframe| Duration::from_micros(keyframe.at);
        let ahead = self.position <= to;
        match keyframe {
            // It is nearer where we are.
            Some(keyframe) if ahead && at(&keyframe) <= self.position => return Ok(()),
            None if ahead => return Ok(()),
            Some(keyframe) => {
                let header = self.reader.header().clone();
                self.stage = Stage::new(&header, self.how.terminal, self.how.requests);
                self.stage.restore(&keyframe);
                let cast = stored.cast_from(keyframe.frame).await?;
                self.reader = Reader::resume(cast, header, &keyframe);
                self.position = at(&keyframe);
            }
            None => {
                self.reader = Reader::open(stored.cast().await?).await?;
                self.stage = Stage::new(self.reader.header(), self.how.terminal, self.how.requests);
                self.position = Duration::ZERO;
            }
        }
        self.advance().await
    }

    async fn advance(&mut self) -> Result<(), PlayError> {
        self.next = self.reader.next().await?;
        if let Some(next) = &self.next {
            self.gap = self.limited(next.at.saturating_sub(self.position));
        }
        Ok(())
    }

    fn limited(&self, gap: Duration) -> Duration {
        self.how.idle_limit.map_or(gap, |limit| gap.min(limit))
    }
}

async fn write(out: &mut (dyn AsyncWrite + Send + Unpin), text: &str) -> Result<(), PlayError> {
    if text.is_empty() {
        return Ok(());
    }
    out.write_all(text.as_bytes())
        .await
        .map_err(PlayError::Write)?;
    out.flush().await.map_err(PlayError::Write)
}
