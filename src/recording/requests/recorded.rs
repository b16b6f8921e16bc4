//! Requests on their way into a recording.

use jiff::SignedDuration;
use serde::Serialize;
use std::time::Duration;

use super::child::{shown, terminal};
use super::line::{
    Answered, Asked, Done, First, Noted, VERSION, check_length, file_size, forward_size, line,
    portion, shorten,
};
use super::{Child, Intent, Note, Outcome, Parent, PodStream, RequestNumber};
use crate::config::RecordInput;
use crate::recording::writing::{Inner, Writing};
use crate::recording::{Kind, OpenRecording, RecordingError, code};
use crate::session::SessionId;

impl OpenRecording {
    /// Records a request before it is forwarded. Returns when it has reached the kernel. Requests at the same time
    /// share the way to the store.
    pub async fn intent(&self, mut intent: Intent) -> Result<RequestNumber, RecordingError> {
        let inner = &self.0;
        if let Some(user_agent) = &mut intent.user_agent {
            // Before it is cut: half a credential is not told from other text.
            *user_agent = inner.secrets().masked_text(user_agent).into_owned();
            shorten(user_agent);
        }
        if let Some(body) = &mut intent.body {
            body.mask(inner.secrets());
        }
        let json = inner.json(&intent)?;
        check_length(&json)?;
        let mut asked = Asked {
            request: RequestNumber::new(0),
            info: intent.info.clone(),
            path: if intent.info.is_resource {
                String::new()
            } else {
                intent.path.clone()
            },
            query: intent.query.clone(),
            marks: intent.marks.clone(),
        };
        let session = self.id();
        self.0
            .record(move |writing, at| {
                let request = writing.tally.next();
                asked.request = request;
                let event = inner.json(&asked)?;
                check_length(&event)?;
                if request.get() == 1 {
                    let first = First {
                        version: VERSION,
                        session,
                    };
                    let first = serde_json::to_vec(&first)?;
                    writing.requests.extend_from_slice(&first);
                    writing.requests.push(b'\n');
                }
                if !writing.tally.intent(request, at, &intent) {
                    return Err(RecordingError::NotUnderWay { request });
                }
                line(request, at, "intent", &json, &mut writing.requests);
                writing
                    .encoder
                    .event(at, code::REQUEST, &event, &mut writing.cast);
                Ok(request)
            })
            .await
    }

    /// Records what came of a request, exactly once. Also once the recording has reached its quota, because an end is on
    /// record where its beginning is; then this fails with [`RecordingError::Quota`] all the same, and the session has to end.
    pub async fn outcome(
        &self,
        request: RequestNumber,
        outcome: Outcome,
    ) -> Result<(), RecordingError> {
        match self.outcome_soon(request, outcome) {
            over @ Err(RecordingError::Quota { .. }) => self.carried().await.and(over),
            Ok(()) => self.carried().await,
            failed => failed,
        }
    }

    /// The same without waiting for the store: it goes with whatever is recorded next, or with [`Self::carried`], which
    /// the caller has to see to.
    pub fn outcome_soon(
        &self,
        request: RequestNumber,
        mut outcome: Outcome,
    ) -> Result<(), RecordingError> {
        let inner = &self.0;
        if let Some(error) = &mut outcome.error {
            *error = inner.secrets().masked_text(error).into_owned();
            shorten(error);
        }
        if let Some(body) = &mut outcome.body {
            body.mask(inner.secrets());
        }
        let mut more = Vec::new();
        for note in [
            Note::Files(std::mem::take(&mut outcome.files)),
            Note::Forwards(std::mem::take(&mut outcome.forwards)),
        ] {
            more.extend(portions(note));
        }
        // The last ones of each stand with the outcome itself.
        if let Some(Note::Forwards(_)) = more.last()
            && let Some(Note::Forwards(last)) = more.pop()
        {
            outcome.forwards = last;
        }
        if let Some(Note::Files(_)) = more.last()
            && let Some(Note::Files(last)) = more.pop()
        {
            outcome.files = last;
        }
        let more = said(inner, &more)?;
        let put = |writing: &mut Writing, at: Duration| {
            let began = writing
                .tally
                .began(request)
                .ok_or(RecordingError::NotUnderWay { request })?;
            let done = Done {
                seconds: at.saturating_sub(began).into(),
                outcome,
            };
            let json = json_of(inner, &done)?;
            let Done { seconds, outcome } = done;
            let event = json_of(
                inner,
                &Answered {
                    request,
                    status: outcome.status,
                    seconds,
                    bytes_in: outcome.bytes_in,
                    bytes_out: outcome.bytes_out,
                    error: outcome.error.clone(),
                    marks: outcome.marks.clone(),
                },
            )?;
            put_notes(inner, writing, at, request, &more)?;
            if writing.tally.outcome(request, &outcome).is_none() {
                return Err(RecordingError::NotUnderWay { request });
            }
            line(request, at, "outcome", &json, &mut writing.requests);
            writing
                .encoder
                .event(at, code::ANSWER, &event, &mut writing.cast);
            Ok(())
        };
        inner.put(put)?;
        inner.within_quota()
    }

    /// Returns when everything that was recorded until now has reached the kernel.
    pub async fn carried(&self) -> Result<(), RecordingError> {
        self.0.carry_waiting().await
    }

    /// Records something about a request that goes on. Lists may be of any length; an empty one says nothing.
    pub async fn note(&self, request: RequestNumber, note: Note) -> Result<(), RecordingError> {
        let inner = &self.0;
        // What was opened already must not be without its parent.
        let opened = matches!(note, Note::Child(_));
        let said = said(inner, &portions(note))?;
        let put = |writing: &mut Writing, at: Duration| {
            if !writing.tally.is_under_way(request) {
                return Err(RecordingError::NotUnderWay { request });
            }
            put_notes(inner, writing, at, request, &said)
        };
        match opened {
            true => inner.record_last(put).await,
            false => inner.record(put).await,
        }
    }

    /// Opens the recording of a stream into a pod: with an id of its own, sealed on its own, and on record here
    /// once it exists.
    pub async fn child(&self, child: Child) -> Result<OpenRecording, RecordingError> {
        let header = &self.0.header;
        let mut metadata = header.metadata().clone();
        // As long after its parent as it is by the clock that does not jump.
        let elapsed = SignedDuration::try_from(self.0.elapsed()).unwrap_or(SignedDuration::MAX);
        if let Ok(opened) = metadata.opened.checked_add(elapsed) {
            metadata.opened = opened;
        }
        metadata.parent = Some(Parent {
            session: metadata.session,
            request: child.request,
        });
        let id = SessionId::new(metadata.opened);
        metadata.session = id;
        metadata.kind = Kind::Stream(child.stream);
        metadata.command = (!child.pod.command.is_empty()).then(|| shown(&child.pod.command));
        metadata.pod = Some(child.pod);
        metadata.terminal = child
            .tty
            .then(|| terminal(metadata.terminal.take(), child.size));
        let mut keeping = self.0.keeping.clone();
        // A client may say what it likes: a kubelet attaches by what the container has.
        if child.stream == PodStream::PodAttach && keeping.record_input == RecordInput::Auto {
            keeping.record_input = RecordInput::Always;
        }
        let recording = self.0.recorder.open(metadata, keeping).await?;
        self.note(child.request, Note::Child(id)).await?;
        Ok(recording)
    }
}

/// A note in lines that are not too long.
fn portions(note: Note) -> Vec<Note> {
    let mut notes = Vec::new();
    match note {
        Note::Files(mut files) => {
            files.iter_mut().for_each(|file| shorten(&mut file.name));
            while !files.is_empty() {
                notes.push(Note::Files(portion(&mut files, file_size)));
            }
        }
        Note::Forwards(mut forwards) => {
            let errors = forwards.iter_mut().filter_map(|one| one.error.as_mut());
            errors.for_each(shorten);
            while !forwards.is_empty() {
                notes.push(Note::Forwards(portion(&mut forwards, forward_size)));
            }
        }
        Note::Body(_) | Note::Child(_) => notes.push(note),
    }
    notes
}

/// Notes and their JSON.
fn said(inner: &Inner, notes: &[Note]) -> Result<Vec<(Note, String)>, RecordingError> {
    notes
        .iter()
        .map(|note| Ok((note.clone(), json_of(inner, note)?)))
        .collect()
}

fn json_of(inner: &Inner, what: &impl Serialize) -> Result<String, RecordingError> {
    let json = inner.json(what)?;
    check_length(&json)?;
    Ok(json)
}

/// The caller has seen that the request is under way.
fn put_notes(
    inner: &Inner,
    writing: &mut Writing,
    at: Duration,
    request: RequestNumber,
    notes: &[(Note, String)],
) -> Result<(), RecordingError> {
    let mut events = Vec::with_capacity(notes.len());
    for (note, _) in notes {
        let noted = Noted {
            request,
            note: note.clone(),
        };
        events.push(json_of(inner, &noted)?);
    }
    for ((note, json), event) in notes.iter().zip(&events) {
        if !writing.tally.note(request, note) {
            return Err(RecordingError::NotUnderWay { request });
        }
        line(request, at, "note", json, &mut writing.requests);
        writing
            .encoder
            .event(at, code::NOTE, event, &mut writing.cast);
    }
    Ok(())
}
