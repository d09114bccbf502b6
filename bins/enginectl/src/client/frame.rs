//! Frames to bytes of output and error output.

use engine_api::frame::{Decoder, Stream};

use crate::error::Error;

/// Takes frames apart and collects the daemon's own words in between.
#[derive(Debug, Default)]
pub(crate) struct Demultiplexer {
    decoder: Decoder,
    failure: Vec<u8>,
    /// Payload of small frames of one stream that came together, to be written together.
    gathered: Vec<u8>,
    gathered_error: bool,
}

/// Payload of this size is not worth copying.
const LARGE: usize = 16 << 10;
/// The daemon's own words in a stream are kept up to here.
const MAXIMUM_FAILURE: usize = 64 << 10;

impl Demultiplexer {
    /// Takes the next bytes and gives their payload to `sink`: `true` with what is error output.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(bool, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut bytes = bytes;
        while let Some((stream, payload)) =
            self.decoder.next(&mut bytes).map_err(|error| Error::Protocol(error.to_string()))?
        {
            let is_error = match stream {
                Stream::Stdin | Stream::Stdout => false,
                Stream::Stderr => true,
                Stream::System => {
                    let room = MAXIMUM_FAILURE - self.failure.len();
                    self.failure.extend_from_slice(&payload[..payload.len().min(room)]);
                    continue;
                }
            };
            if self.gathered_error != is_error {
                self.flush(&mut sink)?;
                self.gathered_error = is_error;
            }
            if self.gathered.is_empty() && payload.len() >= LARGE {
                sink(is_error, payload)?;
            } else {
                self.gathered.extend_from_slice(payload);
            }
        }
        self.flush(&mut sink)?;
        if !self.failure.is_empty() && self.decoder.is_idle() {
            let text = String::from_utf8_lossy(&self.failure).into_owned();
            return Err(Error::Protocol(format!("error from daemon in stream: {text}")));
        }
        Ok(())
    }

    fn flush(&mut self, sink: &mut impl FnMut(bool, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let result = if self.gathered.is_empty() { Ok(()) } else { sink(self.gathered_error, &self.gathered) };
        self.gathered.clear();
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use engine_api::frame::encode;

    fn run(bytes: &[u8], cut: usize) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut demultiplexer = Demultiplexer::default();
        for chunk in bytes.chunks(cut) {
            let take = |error: bool, payload: &[u8]| {
                if error {
                    err.extend_from_slice(payload);
                } else {
                    out.extend_from_slice(payload);
                }
                Ok(())
            };
            demultiplexer.feed(chunk, take).map_err(|error| error.to_string())?;
        }
        Ok((out, err))
    }

    #[test]
    fn output_and_errors_go_their_ways() {
        let mut bytes = Vec::new();
        encode(Stream::Stdout, b"hello ", &mut bytes);
        encode(Stream::Stderr, b"oops", &mut bytes);
        encode(Stream::Stdout, b"", &mut bytes);
        encode(Stream::Stdin, b"world", &mut bytes);
        for cut in 1..=bytes.len() {
            assert_eq!(run(&bytes, cut).unwrap(), (b"hello world".to_vec(), b"oops".to_vec()), "{cut}");
        }
    }

    #[test]
    fn what_came_together_is_written_together() {
        let mut bytes = Vec::new();
        for (stream, text) in
            [(Stream::Stdout, "a\n"), (Stream::Stdout, "b\n"), (Stream::Stderr, "c\n"), (Stream::Stdout, "d\n")]
        {
            encode(stream, text.as_bytes(), &mut bytes);
        }
        let mut writes = Vec::new();
        let take = |error: bool, payload: &[u8]| {
            writes.push((error, String::from_utf8_lossy(payload).into_owned()));
            Ok(())
        };
        Demultiplexer::default().feed(&bytes, take).unwrap();
        assert_eq!(writes, [(false, "a\nb\n".to_owned()), (true, "c\n".to_owned()), (false, "d\n".to_owned())]);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert_eq!(run(b"hello world", 5), Err("Unrecognized input header: 104".to_owned()));
    }

    #[test]
    fn the_daemon_s_own_words_are_an_error() {
        let mut bytes = Vec::new();
        encode(Stream::System, b"disk full", &mut bytes);
        assert_eq!(run(&bytes, 3), Err("error from daemon in stream: disk full".to_owned()));
    }
}
