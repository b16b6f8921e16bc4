//! asciicast, the versions that players read.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::io::AsyncReadExt;

use super::{Out, put};
use crate::recording::{Header, Line, LineReader, Stored, WholeLines, code, write_seconds};
use crate::replay::PlayError;

/// As it is stored. Of a live recording, the whole lines: players stumble over half ones.
pub(super) async fn v3(stored: &Stored, out: &mut Out<'_>) -> Result<(), PlayError> {
    let mut cast = stored.cast().await?;
    if stored.manifest().await?.is_none() {
        let mut lines = WholeLines::new(cast);
        while let Some(line) = lines.next().await? {
            put(out, line).await?;
            put(out, b"\n").await?;
        }
        return Ok(());
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = cast
            .read(&mut buffer)
            .await
            .map_err(|error| PlayError::Read(error.into()))?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => put(out, bytes).await?,
        }
    }
}

/// The header of version 2.
#[derive(Serialize)]
struct HeaderV2<'a> {
    version: u32,
    width: u16,
    height: u16,
    timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a str>,
    title: &'a str,
    env: BTreeMap<&'static str, &'a str>,
}

/// Version 2: times are from the start, and there are no codes but its own. What a session without a terminal wrote
/// gets the carriage returns that a terminal would have added.
pub(super) async fn v2(stored: &Stored, out: &mut Out<'_>) -> Result<(), PlayError> {
    let mut reader = LineReader::open(stored.cast().await?).await?;
    let terminal = reader.header().metadata().terminal.is_some();
    put(out, &header(reader.header())).await?;
    let mut after_return = false;
    let mut line_out = Vec::new();
    while let Some(line) = reader.next().await? {
        let Line {
            at,
            code,
            data: Some(data),
            ..
        } = line
        else {
            continue;
        };
        let data = match code {
            code::OUTPUT if !terminal => with_returns(&data, &mut after_return),
            code::OUTPUT | code::INPUT | code::RESIZE | code::MARKER => data,
            _ => continue,
        };
        line_out.clear();
        line_out.push(b'[');
        write_seconds(at, &mut line_out);
        line_out.extend_from_slice(b", ");
        line_out.extend_from_slice(&json(&code));
        line_out.extend_from_slice(b", ");
        line_out.extend_from_slice(&json(&data));
        line_out.extend_from_slice(b"]\n");
        put(out, &line_out).await?;
    }
    Ok(())
}

fn header(header: &Header) -> Vec<u8> {
    let mut line = json(&HeaderV2 {
        version: 2,
        width: header.term.cols,
        height: header.term.rows,
        timestamp: header.timestamp,
        command: header.command.as_deref(),
        title: &header.title,
        env: header
            .term
            .term
            .as_deref()
            .map(|term| ("TERM", term))
            .into_iter()
            .collect(),
    });
    line.push(b'\n');
    line
}

/// Strings and maps of strings always serialize.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn with_returns(text: &str, after_return: &mut bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character == '\n' && !*after_return {
            out.push('\r');
        }
        out.push(character);
        *after_return = character == '\r';
    }
    out
}
