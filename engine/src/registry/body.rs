//! Answers read with a bound on their size and on how long they may pause.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

use super::Error;

/// How long a body may give nothing.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_ERROR: u64 = 64 << 10;

/// The next bytes of a body; `None` at its end, an error text when it broke off.
pub(super) async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, String> {
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
pub(super) async fn whole(mut response: Response<Incoming>, limit: u64, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunk(response.body_mut()).await.map_err(|cause| broken(what, &cause))? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(Error::Misbehaved(format!("its {what} has more than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
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
