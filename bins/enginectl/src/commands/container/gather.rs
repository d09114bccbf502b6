//! The output of several containers together: each line behind the name of its container, in a colour of its own.

use std::io::IsTerminal;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::logs::open;
use crate::client::{Client, Demultiplexer, Query};
use crate::commands::suggest::suggest;
use crate::error::Error;
use crate::session::Session;

/// Colours that are readable on dark and on light.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
/// A line that is longer is shown in pieces.
const LONGEST: usize = 1 << 20;

pub(super) async fn gather(names: &[String], client: &Client, query: &Query, session: &Session) -> Result<u8, Error> {
    let mut code = 0;
    let mut sources = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match open(client, name, query).await {
            Ok((framed, body)) => sources.push(lines(index, name.clone(), framed, body).boxed()),
            Err(error @ (Error::Unreachable { .. } | Error::BrokenPipe)) => return Err(error),
            Err(error) => {
                session.complain(&error);
                if let Some(hint) = suggest(session, client, &error).await {
                    session.complain(hint);
                }
                code = 1;
            }
        }
    }
    let colours = session.io.stdout.is_terminal() && session.io.variable("NO_COLOR").is_none();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut all = stream::select_all(sources);
    while let Some(come) = all.next().await {
        let (index, come) = come?;
        let mut text = Vec::new();
        for line in come {
            text.extend_from_slice(prefix(&names[index], index, width, colours).as_bytes());
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        session.print(text)?;
    }
    Ok(code)
}

fn prefix(name: &str, index: usize, width: usize, colours: bool) -> String {
    let padding = " ".repeat(width - name.chars().count().min(width));
    if colours {
        format!("\x1b[{}m{name}{padding} |\x1b[0m ", COLOURS[index % COLOURS.len()])
    } else {
        format!("{name}{padding} | ")
    }
}

struct Reader {
    name: String,
    body: Incoming,
    framed: bool,
    demultiplexer: Demultiplexer,
    /// What is there of the lines of both outputs that have not ended.
    begun: [Vec<u8>; 2],
    over: bool,
}

/// What one container has written, as many whole lines at once as have come.
fn lines(
    index: usize,
    name: String,
    framed: bool,
    body: Incoming,
) -> impl stream::Stream<Item = Result<(usize, Vec<Vec<u8>>), Error>> + Send {
    let reader =
        Reader { name, body, framed, demultiplexer: Demultiplexer::default(), begun: Default::default(), over: false };
    stream::unfold(reader, move |mut reader| async move {
        while !reader.over {
            let come = match reader.body.frame().await {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(source)) => {
                    reader.over = true;
                    let what = format!("read the log of {}", reader.name);
                    return Some((Err(Error::Http { what, source }), reader));
                }
                None => {
                    reader.over = true;
                    let left: Vec<_> =
                        reader.begun.iter_mut().map(std::mem::take).filter(|line| !line.is_empty()).collect();
                    return (!left.is_empty()).then_some((Ok((index, left)), reader));
                }
            };
            match reader.take(&come) {
                Ok(whole) if whole.is_empty() => {}
                Ok(whole) => return Some((Ok((index, whole)), reader)),
                Err(error) => {
                    reader.over = true;
                    return Some((Err(error), reader));
                }
            }
        }
        None
    })
}

impl Reader {
    fn take(&mut self, come: &Bytes) -> Result<Vec<Vec<u8>>, Error> {
        let mut whole = Vec::new();
        let begun = &mut self.begun;
        let mut add = |is_error: bool, bytes: &[u8]| {
            split(&mut begun[usize::from(is_error)], bytes, &mut whole);
            Ok(())
        };
        if self.framed {
            self.demultiplexer.feed(come, add)?;
        } else {
            add(false, come)?;
        }
        Ok(whole)
    }
}

/// Puts bytes behind what there is of a line, and takes the lines that are whole.
fn split(begun: &mut Vec<u8>, bytes: &[u8], whole: &mut Vec<Vec<u8>>) {
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        begun.extend_from_slice(part);
        if begun.last() == Some(&b'\n') {
            begun.pop();
            // A terminal's lines end with both.
            if begun.last() == Some(&b'\r') {
                begun.pop();
            }
            whole.push(std::mem::take(begun));
        } else if begun.len() > LONGEST {
            whole.push(std::mem::take(begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together() {
        let (mut begun, mut whole) = (Vec::new(), Vec::new());
        for piece in [&b"one\ntw"[..], b"o\r\n\nthr", b"ee"] {
            split(&mut begun, piece, &mut whole);
        }
        assert_eq!(whole, [&b"one"[..], b"two", b""]);
        assert_eq!(begun, b"three");
    }

    #[test]
    fn names_stand_in_a_column() {
        assert_eq!(prefix("web", 0, 5, false), "web   | ");
        assert_eq!(prefix("web", 7, 3, true), "\x1b[33mweb |\x1b[0m ");
    }
}
