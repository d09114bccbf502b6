//! Asks before much is removed.

use std::io::{BufRead, BufReader, Write};

use crate::error::Error;
use crate::session::Session;

/// True if the user types `y`. Anything else, and no answer, is no.
pub(crate) fn confirm(session: &Session, warning: &str) -> Result<bool, Error> {
    let question = format!("{warning}\nAre you sure you want to continue? [y/N] ");
    (&session.io.stdout).write_all(question.as_bytes()).map_err(Error::io("ask"))?;
    let mut answer = String::new();
    BufReader::new(&session.io.stdin).read_line(&mut answer).map_err(Error::io("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y"))
}
