//! Answers read with a bound on their size and on how long they may pause.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use serde::Deserialize;

use super::Error;

/// How long a body may give nothing.
const PAUSE: Duration = Duration::from_secs(60);
/// How long a whole document may take, however steadily it comes; one of 4 MiB needs half of it over a line of 64 kB a second.
const DOCUMENT: Duration = Duration::from_secs(120);
const MAX_ERROR: u64 = 64 << 10;

/// The next bytes of a body; `None` at its end, an error text when it broke off.
pub(super) async fn chunk<B>(body: &mut B) -> Result<Option<Bytes>, String>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    loop {
        match tokio::time::timeout(PAUSE, body.frame()).await {
            Err(_) => return Err(format!("nothing came for {} seconds", PAUSE.as_secs())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// A whole body of at most `limit` bytes.
pub(super) async fn whole(response: Response<Incoming>, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
    gathered(response.into_body(), limit, what, DOCUMENT).await
}

async fn gathered<B>(mut body: B, limit: u64, what: &str, patience: Duration) -> Result<Vec<u8>, Error>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let gather = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunk(&mut body).await.map_err(|cause| broken(what, &cause))? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(Error::Misbehaved(format!("its {what} has more than {limit} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let slow = |_| broken(what, &format!("it was not over within {} seconds", patience.as_secs()));
    tokio::time::timeout(patience, gather).await.map_err(slow)?
}

pub(super) fn broken(what: &str, cause: &str) -> Error {
    Error::Unreachable { url: what.to_owned(), cause: format!("the answer broke off: {cause}") }
}

/// The first error of an error document, and its code.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Complaint {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Complaints {
    #[serde(default)]
    errors: Vec<Complaint>,
}

/// What the registry says is wrong.
pub(super) async fn complaint(response: Response<Incoming>) -> Complaint {
    let bytes = whole(response, MAX_ERROR, "error").await.unwrap_or_default();
    let first = serde_json::from_slice::<Complaints>(&bytes).ok().and_then(|found| found.errors.into_iter().next());
    first.unwrap_or_else(|| Complaint {
        code: String::new(),
        message: String::from_utf8_lossy(&bytes).trim().chars().take(300).collect(),
    })
}

impl Complaint {
    /// `manifest unknown: manifest unknown`: the code in words, and the message without what a terminal would obey.
    pub(super) fn text(&self) -> String {
        let code = self.code.to_lowercase().replace('_', " ");
        let message: String = self.message.chars().filter(|c| !c.is_control()).take(1000).collect();
        match (code.is_empty(), message.is_empty()) {
            (true, true) => "no reason given".to_owned(),
            (true, false) => message,
            (false, true) => code,
            (false, false) => format!("{code}: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    /// Byte after byte, with a pause between them.
    fn dripping(bytes: usize) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let drops = futures_util::stream::unfold(0, move |count| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            (count < bytes).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), count + 1))
        });
        StreamBody::new(Box::pin(drops))
    }

    #[tokio::test]
    async fn a_document_that_drips_for_ever_is_given_up() {
        assert_eq!(gathered(dripping(10), 100, "manifest", DOCUMENT).await.unwrap(), [b'x'; 10]);
        let error = gathered(dripping(usize::MAX), 100, "manifest", DOCUMENT).await.unwrap_err();
        assert!(error.to_string().contains("more than 100 bytes"), "{error}");
        let soon = Duration::from_millis(50);
        let error = gathered(dripping(usize::MAX), u64::MAX, "manifest", soon).await.unwrap_err();
        assert!(error.to_string().contains("it was not over within 0 seconds"), "{error}");
    }
}
