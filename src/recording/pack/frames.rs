//! Files in frames of zstd, each of which can be unpacked alone.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use age::stream::StreamWriter;
use aws_lc_rs::digest::{self, SHA256};

use super::keyframe::Keyframes;
use super::{PackError, ToPack};
use crate::recording::manifest::CastSummary;
use crate::recording::spool::SpoolReader;
use crate::recording::statement::{Extent, Stretch};
use crate::recording::writing::hex;
use crate::session::SessionId;
use crate::store::Part;

/// What of a file is in one frame, before it is packed: as much as a reader unpacks to begin in the middle.
pub(super) const FRAME: usize = 1 << 20;

/// Of long files. Fast, and JSON of terminals becomes a tenth by it.
const LEVEL: i32 = 3;

/// Of what goes into one frame: most recordings do. A sixth less, for at most a seventh of a second.
const SMALL_LEVEL: i32 = 15;

/// The longest line of a cast or an index that is packed. Longer ones are not written.
const MAX_LINE: u64 = 8 << 20;

/// What is packed, and where to.
pub(super) struct Source {
    pub(super) session: SessionId,
    pub(super) directory: PathBuf,
    pub(super) draft: PathBuf,
    pub(super) recording: ToPack,
    /// Size and digest of each file as it was sealed.
    pub(super) checked: BTreeMap<String, (u64, String)>,
    /// As much of a file as goes into a frame.
    pub(super) frame: usize,
}

/// What came of it.
pub(super) struct Packed {
    /// The cast's frames as they are stored, each with the moment of its first event in microseconds.
    pub(super) frames: Vec<(Extent, u64)>,
    /// The other files, and what the cast's last frame left over.
    pub(super) rest: Vec<Extent>,
    /// Every file as it is stored.
    pub(super) files: BTreeMap<String, CastSummary>,
    /// Of the cast in clear, if everybody may know it.
    pub(super) plain_sha256: Option<String>,
}

pub(super) fn pack(source: Source) -> Result<Packed, PackError> {
    let mut packed = Packed {
        frames: Vec::new(),
        rest: Vec::new(),
        files: BTreeMap::new(),
        plain_sha256: None,
    };
    cast(&source, &mut packed)?;
    requests(&source, &mut packed)?;
    Ok(packed)
}

fn cast(source: &Source, packed: &mut Packed) -> Result<(), PackError> {
    let encrypted = source.recording.key.is_some();
    let (from, to, index) = match encrypted {
        false => (Part::Cast, Part::CastPacked, Part::Keyframes),
        true => (
            Part::CastSpool,
            Part::CastEncrypted,
            Part::KeyframesEncrypted,
        ),
    };
    let mut input = source.input(from)?;
    let mut output = source.output(to, source.level(from))?;
    let mut keyframes = Keyframes::default();
    let mut plain = digest::Context::new(&SHA256);
    let mut frame = Vec::with_capacity(source.frame);
    loop {
        frame.clear();
        keyframes.begin(output.packed);
        let since = keyframes.at();
        while frame.len() < source.frame || keyframes.must_go_on() {
            let start = frame.len();
            if !input.line(&mut frame)? {
                break;
            }
            keyframes.line(frame.get(start..).unwrap_or_default());
        }
        if frame.is_empty() {
            break;
        }
        plain.update(&frame);
        if let Some(extent) = output.frame(&frame)? {
            packed.frames.push((extent, since));
        }
    }
    input.check(source, from)?;
    packed.add(to, output)?;
    packed.plain_sha256 = (!encrypted).then(|| hex(plain.finish().as_ref()));
    // Who unpacks a single frame does not look for the right one.
    if let Some(lines) = keyframes.lines()? {
        let mut output = source.output(index, LEVEL)?;
        packed.rest.extend(output.frame(&lines)?);
        packed.add(index, output)?;
    }
    Ok(())
}

fn requests(source: &Source, packed: &mut Packed) -> Result<(), PackError> {
    for (from, to) in [
        (Part::Requests, Part::RequestsPacked),
        (Part::RequestsSpool, Part::RequestsEncrypted),
    ] {
        if !source.checked.contains_key(from.name()) {
            continue;
        }
        let mut input = source.input(from)?;
        let mut output = source.output(to, source.level(from))?;
        let mut frame = Vec::with_capacity(source.frame);
        loop {
            frame.clear();
            while frame.len() < source.frame && input.line(&mut frame)? {}
            if frame.is_empty() {
                break;
            }
            packed.rest.extend(output.frame(&frame)?);
        }
        input.check(source, from)?;
        packed.add(to, output)?;
    }
    Ok(())
}

impl Packed {
    /// Closes a file, and puts it on the list.
    fn add(&mut self, part: Part, output: Output) -> Result<(), PackError> {
        let tee = output.finish()?;
        let mut tee = tee.lock().unwrap_or_else(PoisonError::into_inner);
        self.rest.extend(tee.stretch.take());
        let summary = CastSummary {
            bytes: tee.stretch.end(),
            sha256: Some(hex(tee.whole.clone().finish().as_ref())),
        };
        self.files.insert(part.name().to_owned(), summary);
        Ok(())
    }
}

impl Source {
    fn input(&self, part: Part) -> Result<Input, PackError> {
        let file = File::open(self.directory.join(part.name()))?;
        let digest = Arc::new(Mutex::new(digest::Context::new(&SHA256)));
        let hashing = Hashing {
            input: BufReader::with_capacity(256 * 1024, file),
            digest: Arc::clone(&digest),
        };
        let plain: Box<dyn Read> = match (part, &self.recording.key) {
            (Part::CastSpool | Part::RequestsSpool, Some(key)) => {
                Box::new(SpoolReader::new(hashing, key, part)?)
            }
            _ => Box::new(hashing),
        };
        Ok(Input {
            lines: BufReader::with_capacity(256 * 1024, plain),
            digest,
        })
    }

    /// How hard a file is packed.
    fn level(&self, part: Part) -> i32 {
        let bytes = self.checked.get(part.name()).map(|(bytes, _)| *bytes);
        match bytes {
            Some(bytes) if bytes <= FRAME as u64 => SMALL_LEVEL,
            _ => LEVEL,
        }
    }

    fn output(&self, part: Part, level: i32) -> Result<Output, PackError> {
        let tee = Tee::create(&self.draft.join(part.name()), part)?;
        let encrypted = matches!(
            part,
            Part::CastEncrypted | Part::RequestsEncrypted | Part::KeyframesEncrypted
        );
        let writer = match (&self.recording.recipients, encrypted) {
            (Some(recipients), true) => {
                Writer::Encrypting(Box::new(recipients.encrypt(Shared(Arc::clone(&tee)))?))
            }
            (None, true) => return Err(PackError::NotSealed),
            (_, false) => Writer::Clear(Shared(Arc::clone(&tee))),
        };
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        compressor.include_checksum(true)?;
        Ok(Output {
            writer,
            tee,
            compressor,
            packed: 0,
        })
    }
}

/// A spool in clear, line by line, with the digest of what was really read.
struct Input {
    lines: BufReader<Box<dyn Read>>,
    digest: Arc<Mutex<digest::Context>>,
}

impl Input {
    /// Whether there was one.
    fn line(&mut self, frame: &mut Vec<u8>) -> io::Result<bool> {
        let start = frame.len();
        let read = (&mut self.lines).take(MAX_LINE).read_until(b'\n', frame)?;
        if read > 0 && frame.last() != Some(&b'\n') {
            // Sealed ones have whole lines only.
            frame.truncate(start);
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(read > 0)
    }

    /// What was packed is what was checked.
    fn check(self, source: &Source, part: Part) -> Result<(), PackError> {
        let digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        let found = hex(digest.clone().finish().as_ref());
        match source.checked.get(part.name()) {
            Some((_, sealed)) if *sealed == found => Ok(()),
            _ => {
                let session = source.session;
                Err(PackError::Changed(format!("{} of {session}", part.name())))
            }
        }
    }
}

struct Hashing {
    input: BufReader<File>,
    digest: Arc<Mutex<digest::Context>>,
}

impl Read for Hashing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(out)?;
        let mut digest = self.digest.lock().unwrap_or_else(PoisonError::into_inner);
        digest.update(out.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// A packed file that is being written.
struct Output {
    writer: Writer,
    tee: Arc<Mutex<Tee>>,
    compressor: zstd::bulk::Compressor<'static>,
    /// Bytes of frames so far, before they are encrypted.
    packed: u64,
}

enum Writer {
    Clear(Shared),
    Encrypting(Box<StreamWriter<Shared>>),
}

impl Output {
    /// Adds a frame. What of it has reached the file, which of an encrypted one may be less or more.
    fn frame(&mut self, plain: &[u8]) -> Result<Option<Extent>, PackError> {
        let frame = self.compressor.compress(plain)?;
        self.packed = self.packed.saturating_add(frame.len() as u64);
        match &mut self.writer {
            Writer::Clear(writer) => writer.write_all(&frame)?,
            Writer::Encrypting(writer) => writer.write_all(&frame)?,
        }
        let mut tee = self.tee.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tee.stretch.take())
    }

    fn finish(self) -> Result<Arc<Mutex<Tee>>, PackError> {
        if let Writer::Encrypting(writer) = self.writer {
            drop(writer.finish()?);
        }
        self.tee
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .file
            .sync_all()?;
        Ok(self.tee)
    }
}

/// A file and what is known of its bytes.
struct Tee {
    file: File,
    stretch: Stretch,
    whole: digest::Context,
}

impl Tee {
    fn create(path: &Path, part: Part) -> io::Result<Arc<Mutex<Self>>> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        Ok(Arc::new(Mutex::new(Self {
            file,
            stretch: Stretch::of(part),
            whole: digest::Context::new(&SHA256),
        })))
    }
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Tee>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut tee = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = tee.file.write(bytes)?;
        let bytes = bytes.get(..written).unwrap_or_default();
        tee.stretch.add(bytes);
        tee.whole.update(bytes);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
