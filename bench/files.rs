//! What is sent: always the same bytes, on every machine.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Lines as a cluster prints them.
    Text,
    /// Bytes without any order.
    Random,
    /// Zeros.
    Zeros,
}

impl Content {
    pub(crate) const ALL: [Self; 3] = [Self::Random, Self::Text, Self::Zeros];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Random => "random bytes",
            Self::Zeros => "zeros",
        }
    }

    /// A file of `bytes` bytes, whole lines of text rounded up.
    pub(crate) fn write(self, path: &Path, bytes: u64) -> anyhow::Result<u64> {
        let mut file = BufWriter::with_capacity(
            1 << 20,
            File::create(path).context("making a file to send")?,
        );
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut written = 0;
        while written < bytes {
            written += match self {
                Self::Text => line(&mut file, random.next())?,
                Self::Random => {
                    file.write_all(&random.next().to_le_bytes())?;
                    8
                }
                Self::Zeros => {
                    file.write_all(&[0; 8])?;
                    8
                }
            };
        }
        file.flush()?;
        Ok(written)
    }
}

/// A line like those of `kubectl get pods -A -o wide`, 105 bytes.
fn line(file: &mut impl Write, random: u64) -> std::io::Result<u64> {
    let (a, b) = (random & 0xff_ffff_ffff, random >> 44);
    writeln!(
        file,
        "namespace-{:02}   deployment-{a:010x}-{b:05x}   1/1   Running   {:3}   {:5}m   10.{:3}.{:3}.{:3}   node-{:03}   <none>",
        random % 97,
        random % 113,
        random % 90_001,
        random % 251,
        random % 241,
        random % 239,
        random % 499,
    )?;
    Ok(105)
}

/// xorshift64: fast, and no two lines alike.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
