//! Logs on the wire: framed by stream, or raw for a terminal.

use bytes::{BufMut, Bytes, BytesMut};
use engine::logs::{LogLine, LogStream, Output};
use engine_api::frame::{self, Stream as Kind};
use futures_util::{Stream, stream};

/// How lines are put on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Format {
    /// Each line in a frame that says of which stream it is.
    pub(crate) framed: bool,
    /// What the log driver knows of each line, and a space.
    pub(crate) details: Option<Bytes>,
    /// Lines begin with their time.
    pub(crate) timestamps: bool,
}

/// Lines as they come, as many at once as there are.
pub(crate) fn bytes(lines: LogStream, format: Format) -> impl Stream<Item = Bytes> + Send {
    stream::unfold(Some((lines, format)), |state| async move {
        let (mut lines, format) = state?;
        match lines.next_batch().await? {
            Ok(batch) => Some((encoded(&batch, &format), Some((lines, format)))),
            Err(error) => {
                tracing::warn!(%error, "a log could not be read to its end");
                let text = format!("error from daemon in stream: {error}\n");
                let mut out = BytesMut::new();
                if format.framed {
                    put(Kind::System, &[text.as_bytes()], &mut out);
                }
                Some((out.freeze(), None))
            }
        }
    })
}

fn encoded(batch: &[LogLine], format: &Format) -> Bytes {
    let mut out = BytesMut::with_capacity(batch.iter().map(|line| line.bytes.len() + frame::HEADER + 1).sum());
    for line in batch {
        // The details stand between the time and the message.
        let place = if format.timestamps {
            line.bytes.iter().position(|byte| *byte == b' ').map_or(0, |space| space + 1)
        } else {
            0
        };
        let (time, message) = line.bytes.split_at(place);
        let details = format.details.as_deref().unwrap_or_default();
        let kind = if line.output == Output::Stderr { Kind::Stderr } else { Kind::Stdout };
        if format.framed {
            put(kind, &[time, details, message], &mut out);
        } else {
            [time, details, message].into_iter().for_each(|part| out.put_slice(part));
        }
    }
    out.freeze()
}

/// A frame of several parts.
fn put(kind: Kind, parts: &[&[u8]], out: &mut BytesMut) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // A line is at most some kilobytes long.
    out.put_slice(&frame::header(kind, u32::try_from(length).unwrap_or(u32::MAX)));
    parts.iter().for_each(|part| out.put_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(output: Output, text: &'static str) -> LogLine {
        LogLine { output, at: 1, continued: false, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn each_line_has_its_frame() {
        let batch = [line(Output::Stdout, "a\n"), line(Output::Stderr, "bc\n")];
        let format = Format { framed: true, details: None, timestamps: false };
        assert_eq!(&encoded(&batch, &format)[..], b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x03bc\n");
        assert_eq!(&encoded(&batch, &Format { framed: false, ..format })[..], b"a\nbc\n");
    }

    #[test]
    fn details_stand_behind_the_time() {
        let batch = [line(Output::Stdout, "2026-01-01T00:00:00.000000000Z x y\n")];
        let format = Format { framed: false, details: Some(Bytes::from_static(b"a=b ")), timestamps: true };
        assert_eq!(&encoded(&batch, &format)[..], b"2026-01-01T00:00:00.000000000Z a=b x y\n");
    }
}
