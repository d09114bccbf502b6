//! Bringing blobs and manifests to a registry. A blob that the registry has, here or in another repository, is not sent;
//! one is sent in one request, and when that breaks off, piece by piece from where the registry is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::session::{Ask, Retries, Session, is_busy, is_transient};
use super::{Error, body, token, transport};
use crate::oci::{Digest, Document};

/// What is sent with a request; can be sent again.
#[derive(Debug, Clone)]
pub(super) enum Content {
    None,
    Bytes(Bytes),
    File(Part),
}

/// A part of a file, and who is told how much of it has been sent.
#[derive(Debug, Clone)]
pub(super) struct Part {
    file: Arc<File>,
    from: u64,
    size: u64,
    sent: mpsc::UnboundedSender<u64>,
}

/// How a blob came to be at the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// It was there.
    Known,
    /// The registry took it over from this repository.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// What is read of a file at once.
const READ: usize = 256 << 10;
/// Pieces of a blob that is sent piece by piece; at least what registries that name a minimum name.
const PIECE: u64 = 16 << 20;
const MAX_PIECE: u64 = 512 << 20;

impl Content {
    pub(super) fn body(&self) -> Result<transport::Body, Error> {
        match self {
            Self::None => Ok(transport::full(Bytes::new())),
            Self::Bytes(bytes) => Ok(transport::full(bytes.clone())),
            Self::File(part) => part.body(),
        }
    }
}

impl Part {
    /// Read on a thread of its own, a little ahead of what is sent.
    fn body(&self) -> Result<transport::Body, Error> {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
        let part = self.clone();
        let read = move || {
            let (mut at, end) = (part.from, part.from + part.size);
            while at < end {
                let mut piece = vec![0; READ.min(usize::try_from(end - at).unwrap_or(READ))];
                let read = part.file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece));
                at += read.as_ref().map_or(0, |piece| piece.len() as u64);
                let failed = read.is_err();
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
                // Nobody has to listen.
                let _ = part.sent.send(at);
            }
        };
        std::thread::Builder::new()
            .name("engine-upload".to_owned())
            .spawn(read)
            .map_err(|error| Error::Local(format!("start a thread to send a blob: {error}")))?;
        let pieces = stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece.map(Frame::data), receiver))
        });
        Ok(StreamBody::new(pieces).boxed_unsync())
    }
}

impl Session {
    /// Whether the repository has the blob.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        let url = format!("{}/v2/{}/blobs/{digest}", self.endpoint.base, self.reference.repository());
        let ask = Ask::new(Method::HEAD, &url);
        let mut retries = Retries::default();
        loop {
            let response = self.once(&ask).await;
            let pause = match &response {
                Err(error) if is_transient(error) => retries.next(None),
                Ok(response) if is_busy(response.status()) => retries.next(Some(response.headers())),
                _ => None,
            };
            match (pause, response) {
                (Some(pause), _) => tokio::time::sleep(pause).await,
                (None, Err(error)) => return Err(error),
                (None, Ok(response)) if response.status().is_success() => return Ok(true),
                (None, Ok(response)) if response.status() == StatusCode::NOT_FOUND => return Ok(false),
                (None, Ok(response)) => return Err(self.refused(&ask, response).await),
            }
        }
    }

    /// Brings a blob of `size` bytes there, if it is not there. `from` are repositories of the registry that have it,
    /// `sent` is told the bytes that have been sent so far.
    pub async fn upload(
        &self,
        digest: &Digest,
        size: u64,
        file: File,
        from: &[String],
        sent: mpsc::UnboundedSender<u64>,
        retrying: impl Fn(u64),
    ) -> Result<Uploaded, Error> {
        let file = Arc::new(file);
        let part = |from, size| Part { file: file.clone(), from, size, sent: sent.clone() };
        let mut retries = Retries::default();
        let mut in_pieces = false;
        loop {
            let (location, least) = match self.begin(digest, from).await? {
                Begun::Mounted(repository) => return Ok(Uploaded::Mounted(repository)),
                Begun::At(location, least) => (location, least),
            };
            let result = if in_pieces {
                self.pieces(digest, size, location, least, &part).await
            } else {
                self.whole(digest, &location, part(0, size)).await
            };
            let (error, pause) = match result {
                Ok(()) => return Ok(Uploaded::Sent),
                Err(Failed { error, passing: true, headers }) => (error, retries.next(headers.as_ref())),
                // Something between here and there takes no requests of this size.
                Err(Failed { error: error @ Error::Status { status: 413, .. }, .. }) if !in_pieces => {
                    (error, retries.next(None))
                }
                Err(Failed { error, .. }) => return Err(error),
            };
            in_pieces = true;
            let Some(pause) = pause else { return Err(error) };
            retrying(pause.as_secs().max(1));
            tokio::time::sleep(pause).await;
        }
    }

    /// Begins an upload, or has the registry take the blob over from another repository.
    async fn begin(&self, digest: &Digest, from: &[String]) -> Result<Begun, Error> {
        let repository = self.reference.repository();
        let uploads = format!("{}/v2/{repository}/blobs/uploads/", self.endpoint.base);
        for source in from.iter().filter(|source| *source != repository) {
            let url = format!("{uploads}?mount={}&from={}", token::escape(&digest.to_string()), token::escape(source));
            let ask = Ask::new(Method::POST, &url).header(header::CONTENT_LENGTH, "0");
            let response = match self.ask(&ask).await {
                Ok(response) => response,
                // Taking over is a favour; who refuses it may well take the bytes.
                Err(
                    Error::Denied { .. } | Error::Unauthorized(_) | Error::Status { .. } | Error::NameUnknown { .. },
                ) => continue,
                Err(error) => return Err(error),
            };
            if response.status() == StatusCode::CREATED {
                return Ok(Begun::Mounted(source.clone()));
            }
            return self.begun(&url, &response);
        }
        let ask = Ask::new(Method::POST, &uploads).header(header::CONTENT_LENGTH, "0");
        let response = self.ask(&ask).await?;
        self.begun(&uploads, &response)
    }

    fn begun(&self, url: &str, response: &Response<Incoming>) -> Result<Begun, Error> {
        let least = response.headers().get("oci-chunk-min-length").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Begun::At(self.led(url, response)?, least.unwrap_or(0)))
    }

    async fn whole(&self, digest: &Digest, location: &str, part: Part) -> Result<(), Failed> {
        let url = with_digest(location, digest);
        let ask = Ask::new(Method::PUT, &url)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, part.size.to_string())
            .content(Content::File(part));
        self.step(&ask).await.map(drop)
    }

    /// Sends piece by piece, each from where the registry says that it is.
    async fn pieces(
        &self,
        digest: &Digest,
        size: u64,
        mut location: String,
        least: u64,
        part: &impl Fn(u64, u64) -> Part,
    ) -> Result<(), Failed> {
        let piece = least.clamp(PIECE, MAX_PIECE);
        let mut retries = Retries::default();
        let mut at = 0;
        while at < size {
            let length = piece.min(size - at);
            let ask = Ask::new(Method::PATCH, &location)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, length.to_string())
                .header(header::CONTENT_RANGE, format!("{at}-{}", at + length - 1))
                .content(Content::File(part(at, length)));
            match self.step(&ask).await {
                Ok(response) => {
                    let before = at;
                    at = received(&response).unwrap_or(at + length);
                    if at <= before {
                        let had = format!("it takes a piece of blob {digest} and has no more of it than before");
                        return Err(Error::Misbehaved(had).into());
                    }
                    // A bad line is no reason to give up what comes along piece by piece.
                    retries = Retries::default();
                    location = self.led(&location, &response)?;
                }
                Err(failed) => {
                    let pause = if failed.passing { retries.next(failed.headers.as_ref()) } else { None };
                    let Some(pause) = pause else { return Err(failed) };
                    tokio::time::sleep(pause).await;
                    let response = self.step(&Ask::get(&location)).await?;
                    at = received(&response).unwrap_or(0);
                    if response.headers().contains_key(header::LOCATION) {
                        location = self.led(&location, &response)?;
                    }
                }
            }
            if at > size {
                let had = format!("it says that it has {at} of {size} bytes of blob {digest}");
                return Err(Error::Misbehaved(had).into());
            }
        }
        let url = with_digest(&location, digest);
        self.step(&Ask::new(Method::PUT, &url).header(header::CONTENT_LENGTH, "0")).await.map(drop)
    }

    async fn step(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Failed> {
        match self.once(ask).await {
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => {
                let (passing, headers) = (is_busy(response.status()), Some(response.headers().clone()));
                Err(Failed { error: self.refused(ask, response).await, passing, headers })
            }
            Err(error) => Err(Failed { passing: matches!(error, Error::Unreachable { .. }), error, headers: None }),
        }
    }

    /// Puts a manifest there, under a tag or its digest. One that refers to another is found by who looks for what refers to
    /// that.
    pub async fn put_manifest(&self, name: &str, bytes: &[u8], media_type: &str) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let url = format!("{}/v2/{}/manifests/{name}", self.endpoint.base, self.reference.repository());
        let ask = Ask::new(Method::PUT, &url)
            .header(header::CONTENT_TYPE, media_type)
            .content(Content::Bytes(Bytes::copy_from_slice(bytes)));
        let response = self.ask(&ask).await?;
        let told = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.and_then(|text| text.parse::<Digest>().ok())
        };
        if let Some(found) = told("docker-content-digest").filter(|found| *found != digest) {
            return Err(Error::Mismatch { what: "the manifest that was put", expected: digest, found });
        }
        if let Ok(document) = Document::parse(bytes, Some(media_type))
            && let Some(subject) = document.subject()
            && told("oci-subject") != Some(subject.digest)
        {
            self.refer(&subject.digest, &document.as_referrer(media_type, bytes)).await?;
        }
        Ok(digest)
    }

    /// All tags of the repository, sorted.
    pub async fn tags(&self) -> Result<Vec<String>, Error> {
        let mut tags = Vec::new();
        let mut url = format!("{}/v2/{}/tags/list?n=1000", self.endpoint.base, self.reference.repository());
        for _ in 0..MAX_PAGES {
            let response = self.ask(&Ask::get(&url)).await?;
            let next = next_page(&response);
            let next = next.map(|next| self.beside(&url, &next)).transpose()?;
            let bytes = body::whole(response, MAX_TAGS, "list of tags").await?;
            let page: Tags =
                serde_json::from_slice(&bytes).map_err(|error| Error::Misbehaved(format!("its tags: {error}")))?;
            tags.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => url = next,
                None => {
                    tags.sort();
                    tags.dedup();
                    return Ok(tags);
                }
            }
        }
        Err(Error::Misbehaved(format!("its list of tags has more than {MAX_PAGES} pages")))
    }

    /// An address of the same registry, relative to another one.
    pub(super) fn beside(&self, url: &str, next: &str) -> Result<String, Error> {
        let wrong = || Error::Misbehaved(format!("the next page of its list is at {next:?}"));
        let next = match next.strip_prefix('?') {
            Some(query) => format!("{}?{query}", url.split('?').next().unwrap_or_default()),
            None if next.starts_with('/') => {
                let end = url.find("/v2/").ok_or_else(wrong)?;
                format!("{}{next}", &url[..end])
            }
            None => next.to_owned(),
        };
        if next.starts_with(&format!("{}/v2/", self.endpoint.base)) { Ok(next) } else { Err(wrong()) }
    }
}

const MAX_TAGS: u64 = 8 << 20;
const MAX_PAGES: usize = 1000;

#[derive(serde::Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

/// `Link: </v2/x/tags/list?last=y>; rel="next"`.
pub(super) fn next_page(response: &Response<Incoming>) -> Option<String> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| address.to_owned())
}

enum Begun {
    Mounted(String),
    /// Where to send it, and the least that a piece may have.
    At(String, u64),
}

struct Failed {
    error: Error,
    /// Whether another attempt may fare better.
    passing: bool,
    /// Those of the answer, which may say when that is.
    headers: Option<HeaderMap>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, passing: false, headers: None }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// How many bytes the registry says it has: `Range: 0-99` are a hundred. `0-0` stands for none as well as for one.
fn received(response: &Response<Incoming>) -> Option<u64> {
    let range = response.headers().get(HeaderName::from_static("range"))?.to_str().ok()?;
    let (_, last) = range.trim_start_matches("bytes=").split_once('-')?;
    last.trim().parse::<u64>().ok().filter(|last| *last > 0)?.checked_add(1)
}

fn with_digest(location: &str, digest: &Digest) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={}", token::escape(&digest.to_string()))
}
