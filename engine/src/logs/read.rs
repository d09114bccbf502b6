//! Turns the bytes of the files into lines, a batch at a time.

use std::io;

use bytes::Bytes;

use super::files::Files;
use super::record::{Foreign, Output, Record, fixed_time_into, nanoseconds};
use super::{LogLine, LogOptions};

/// How much is read at once.
const BLOCK: usize = 256 << 10;
/// The longest record in the file. A message is at most 16 KiB, each byte of it at most six.
const MAX_RECORD: usize = 256 << 10;

/// How much later than a record an earlier one may have been made: the pieces of a long line have the time of the first.
const DISORDER: i64 = 10_000_000_000;

/// Reads the lines of a log that were asked for.
#[derive(Debug)]
pub(super) struct Reader {
    files: Files,
    options: LogOptions,
    buffer: Vec<u8>,
    /// The bytes of `buffer` that hold the beginning of a record.
    filled: usize,
    /// The beginning of a record that is too long has been dropped; its end is still to come.
    skipping: bool,
    /// The last message of this output did not end its line.
    unfinished: [bool; 2],
    /// A line was later than asked for: nothing more is read.
    ended: bool,
}

impl Reader {
    /// Goes to where the lines asked for begin.
    pub(super) fn open(mut files: Files, options: LogOptions) -> io::Result<Self> {
        if let Some(count) = options.tail {
            files.seek_to_tail(count, |line| Record::parse(line).is_none_or(|record| record.ends_line()))?;
        } else if let Some(since) = options.since {
            let time_of = |line: &[u8]| Record::parse(line).and_then(|record| nanoseconds(record.time));
            files.seek_to_time(since.saturating_sub(DISORDER), time_of)?;
        }
        Ok(Self {
            files,
            options,
            buffer: Vec::new(),
            filled: 0,
            skipping: false,
            unfinished: [false; 2],
            ended: false,
        })
    }

    /// The next lines; none when nothing more has been written yet.
    pub(super) fn batch(&mut self) -> io::Result<Vec<LogLine>> {
        self.buffer.resize(BLOCK + MAX_RECORD, 0);
        while !self.ended {
            let count = self.files.read(&mut self.buffer[self.filled..])?;
            if count == 0 {
                if !self.files.turn() {
                    break;
                }
                // Nobody will finish a record that was cut off by the end of its file.
                self.filled = 0;
                self.skipping = false;
                continue;
            }
            self.filled += count;
            let lines = self.take_lines();
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
        // Nothing to hold on to while waiting.
        self.buffer.truncate(self.filled);
        self.buffer.shrink_to_fit();
        Ok(Vec::new())
    }

    /// Whether there is a newer file. To the present one more may have been written before that.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.files.advance()
    }

    /// Whether no further line can be one of those asked for.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    fn take_lines(&mut self) -> Vec<LogLine> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut text = Vec::with_capacity(self.filled);
        // Places in `text`, which becomes one shared allocation for the whole batch.
        let mut places = Vec::with_capacity(self.filled / 128);
        let mut start = 0;
        while let Some(length) = buffer[start..self.filled].iter().position(|byte| *byte == b'\n') {
            let line = &buffer[start..start + length];
            start += length + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            self.take_line(line, &mut text, &mut places);
            if self.ended {
                break;
            }
        }
        self.buffer = buffer;
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        if self.filled > MAX_RECORD {
            self.filled = 0;
            self.skipping = true;
        }
        let text = Bytes::from(text);
        let mut begin = 0;
        places
            .into_iter()
            .map(|place| {
                let bytes = text.slice(begin..place.end);
                begin = place.end;
                LogLine { output: place.output, at: place.at, continued: place.continued, bytes }
            })
            .collect()
    }

    fn take_line(&mut self, line: &[u8], text: &mut Vec<u8>, places: &mut Vec<Place>) {
        let begin = text.len();
        let known = Record::parse(line);
        let foreign = if known.is_none() { Foreign::parse(line) } else { None };
        let (output, time) = match (&known, &foreign) {
            (Some(record), _) => (record.output, record.time),
            (None, Some(foreign)) => (foreign.output(), foreign.time.as_bytes()),
            // Cut off by a loss of power, or not ours: the others are not worse for it.
            (None, None) => return,
        };
        let Some(at) = nanoseconds(time) else { return };
        if self.options.until.is_some_and(|until| at > until) {
            self.ended = true;
            return;
        }
        let continued = self.unfinished[output as usize];
        let wanted = match output {
            Output::Stdout => self.options.stdout,
            Output::Stderr => self.options.stderr,
        };
        if wanted && self.options.since.is_none_or(|since| at >= since) && self.options.timestamps && !continued {
            fixed_time_into(time, text);
        }
        let message = text.len();
        match (&known, &foreign) {
            (Some(record), _) if record.unescape_into(text).is_some() => {}
            (None, Some(foreign)) => text.extend_from_slice(foreign.log.as_bytes()),
            _ => {
                text.truncate(begin);
                return;
            }
        }
        self.unfinished[output as usize] = text.len() > message && text.last() != Some(&b'\n');
        if !wanted || self.options.since.is_some_and(|since| at < since) {
            text.truncate(begin);
            return;
        }
        places.push(Place { end: text.len(), output, at, continued });
    }
}

struct Place {
    end: usize,
    output: Output,
    at: i64,
    continued: bool,
}
