//! Answers of many lines, that are read while they come.

use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error::Error;

/// No line of an answer is longer.
const MAXIMUM: usize = 4 << 20;

/// Reads `what` to its end and gives the lines to `take`, those together that have come together.
pub(crate) async fn read(
    mut body: Incoming,
    what: &str,
    mut take: impl FnMut(&mut dyn Iterator<Item = &[u8]>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Http { what: format!("read {what}"), source })?;
        let Ok(bytes) = frame.into_data() else { continue };
        lines.feed(&bytes, what, &mut take)?;
    }
    lines.end(&mut take)
}

/// Bytes to lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes bytes, and gives the lines that are whole now.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        what: &str,
        take: &mut impl FnMut(&mut dyn Iterator<Item = &[u8]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        if let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.partial.split_off(before + end + 1);
            let whole = std::mem::replace(&mut self.partial, rest);
            take(&mut split(&whole))?;
        }
        if self.partial.len() > MAXIMUM {
            return Err(Error::Protocol(format!("{what} has a line that does not end")));
        }
        Ok(())
    }

    /// Gives the last line, which may have no end.
    pub(crate) fn end(
        self,
        take: &mut impl FnMut(&mut dyn Iterator<Item = &[u8]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        take(&mut split(&self.partial))
    }
}

fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        for size in 1..12 {
            let (mut told, mut lines) = (Vec::new(), Lines::default());
            let mut take = |some: &mut dyn Iterator<Item = &[u8]>| {
                told.extend(some.map(|line| String::from_utf8_lossy(line).into_owned()));
                Ok(())
            };
            for piece in b"one\n\ntwo\r\n  \nthree".chunks(size) {
                lines.feed(piece, "a text", &mut take).unwrap();
            }
            lines.end(&mut take).unwrap();
            assert_eq!(told, ["one", "two\r", "three"], "{size}");
        }
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut lines = Lines::default();
        let mut take = |_: &mut dyn Iterator<Item = &[u8]>| Ok(());
        lines.feed(&vec![b'x'; MAXIMUM], "a text", &mut take).unwrap();
        let error = lines.feed(b"x", "a text", &mut take).unwrap_err();
        assert_eq!(error.to_string(), "a text has a line that does not end");
    }
}
