//! The same for each of several names: all are tried, some at a time, and what failed is told at the end of each.

use std::future::Future;

use futures_util::stream::{self, StreamExt};

use crate::client::Client;
use crate::commands::suggest::suggest;
use crate::error::Error;
use crate::session::Session;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;

/// Does it for each name and prints what it gives, in the order of the names. 1 if anything failed.
pub(crate) async fn each<F, R>(session: &Session, client: &Client, names: &[String], act: F) -> Result<u8, Error>
where
    F: Fn(String) -> R,
    R: Future<Output = Result<String, Error>>,
{
    let mut code = 0;
    let mut results = stream::iter(names.iter().cloned()).map(act).buffered(AT_ONCE);
    while let Some(result) = results.next().await {
        match result {
            Ok(text) if text.is_empty() => {}
            Ok(text) => session.print_line(text)?,
            // Nothing else will go better with a daemon that is not there.
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
    Ok(code)
}
