//! Fetching blobs: piece by piece, and on from where it broke off.

use std::ops::Range;

use bytes::Bytes;
use http::{StatusCode, header};
use hyper::body::Incoming;

use super::session::{Ask, Retries, Session};
use super::{Error, body};
use crate::oci::{Descriptor, Digest};

impl Session {
    /// Fetches a small blob, whole and checked.
    pub async fn small(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        if descriptor.size > limit {
            let size = descriptor.size;
            return Err(crate::oci::Error::TooLarge { what: "image configuration", size, limit }.into());
        }
        let mut reader = self.blob(descriptor);
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.chunk(|_| {}).await? {
            bytes.extend_from_slice(&chunk);
        }
        match Digest::of(&bytes) {
            found if found == descriptor.digest => Ok(bytes),
            found => Err(Error::Mismatch { what: "the configuration", expected: descriptor.digest, found }),
        }
    }

    /// A blob that is read piece by piece. It has as many bytes as the descriptor says, or its end is an error; its
    /// digest is for the reader to check.
    pub fn blob(&self, descriptor: &Descriptor) -> BlobReader<'_> {
        self.blob_from(descriptor, 0)
    }

    /// The bytes of a blob from one place to before another. [`Error::NoRanges`] when the registry gives blobs only as a whole.
    pub fn blob_part(&self, descriptor: &Descriptor, part: Range<u64>) -> BlobReader<'_> {
        let end = part.end.min(descriptor.size);
        BlobReader { end, ..self.blob_from(descriptor, part.start) }
    }

    /// The same from a place on.
    pub fn blob_from(&self, descriptor: &Descriptor, at: u64) -> BlobReader<'_> {
        BlobReader {
            session: self,
            digest: descriptor.digest,
            size: descriptor.size,
            at,
            end: descriptor.size,
            body: None,
            surplus: 0,
            retries: Retries::default(),
            broken_at: at,
        }
    }
}

/// A blob on its way. When the connection breaks, it goes on where it was.
#[derive(Debug)]
pub struct BlobReader<'a> {
    session: &'a Session,
    digest: Digest,
    size: u64,
    at: u64,
    /// Where it is to end.
    end: u64,
    body: Option<Incoming>,
    /// Bytes that come a second time, from a server that knows no ranges.
    surplus: u64,
    retries: Retries,
    /// Where it broke the last time.
    broken_at: u64,
}

/// So much between two breaks is worth any number of them: a bad line is no reason to give a large blob up.
const WORTH: u64 = 256 << 10;

impl BlobReader<'_> {
    /// The next bytes; `None` when all have come. `retrying` is told how many seconds pass before another attempt.
    pub async fn chunk(&mut self, retrying: impl Fn(u64)) -> Result<Option<Bytes>, Error> {
        loop {
            if self.body.is_none() && self.at < self.end {
                let body = self.open().await?;
                self.body = Some(body);
            }
            let Some(body) = &mut self.body else { return Ok(None) };
            let cause = match body::chunk(body).await {
                Ok(Some(mut bytes)) => {
                    let known = usize::try_from(self.surplus).unwrap_or(usize::MAX).min(bytes.len());
                    self.surplus -= known as u64;
                    let _ = bytes.split_to(known);
                    if bytes.is_empty() {
                        continue;
                    }
                    self.at += bytes.len() as u64;
                    if self.at > self.end {
                        return Err(Error::Misbehaved(format!(
                            "blob {} has more than {} bytes",
                            self.digest, self.end
                        )));
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) if self.at == self.end => {
                    self.body = None;
                    return Ok(None);
                }
                Ok(None) => format!("it ended after {} of {} bytes", self.at, self.end),
                Err(cause) => cause,
            };
            self.body = None;
            if self.at - self.broken_at >= WORTH {
                self.retries = Retries::default();
            }
            self.broken_at = self.at;
            match self.retries.next(None) {
                Some(pause) => {
                    retrying(pause.as_secs().max(1));
                    tokio::time::sleep(pause).await;
                }
                None => return Err(body::broken(&format!("blob {}", self.digest), &cause)),
            }
        }
    }

    async fn open(&mut self) -> Result<Incoming, Error> {
        let (session, at) = (self.session, self.at);
        let base = &session.endpoint.base;
        let url = format!("{base}/v2/{}/blobs/{}", session.reference.repository(), self.digest);
        let mut ask = Ask::get(&url);
        let is_part = self.end < self.size;
        if is_part {
            ask = ask.header(header::RANGE, format!("bytes={at}-{}", self.end - 1));
        } else if at > 0 {
            ask = ask.header(header::RANGE, format!("bytes={at}-"));
        }
        let response = session.ask(&ask).await?;
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let resumed = (is_part || at > 0) && response.status() == StatusCode::PARTIAL_CONTENT;
        if is_part && !resumed {
            return Err(Error::NoRanges);
        }
        let start = response.headers().get(header::CONTENT_RANGE).and_then(|value| start_of(value.to_str().ok()?));
        if resumed && start.is_some_and(|start| start != at) {
            let digest = self.digest;
            return Err(Error::Misbehaved(format!(
                "of blob {digest} it gives other bytes than those that were asked for"
            )));
        }
        let expected = if resumed { self.end - at } else { self.size };
        if let Some(length) = length.filter(|length: &u64| *length != expected) {
            let digest = self.digest;
            return Err(Error::Misbehaved(format!("blob {digest} has {length} bytes, it should have {expected}")));
        }
        self.surplus = if resumed { 0 } else { at };
        Ok(response.into_body())
    }
}

/// Where the bytes of a `Content-Range` begin.
fn start_of(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}
