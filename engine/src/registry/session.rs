//! A conversation with one registry about one repository.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::challenge::{self, Challenge};
use super::endpoint::Endpoint;
use super::{Auth, Client, Error, body, token, transport};
use crate::oci::{Descriptor, Digest, Document, Manifest, Reference, media_type};

pub(super) const AGENT: &str = concat!("engine/", env!("CARGO_PKG_VERSION"));

/// Redirects that are followed, and attempts at what may work the next time.
const REDIRECTS: usize = 5;
const ATTEMPTS: u32 = 5;
/// The longest wait that a registry can impose, in seconds.
const MAX_WAIT: u64 = 30;

/// A conversation. It remembers what the registry wants to see.
#[derive(Debug)]
pub struct Session {
    client: Client,
    endpoint: Endpoint,
    reference: Reference,
    auth: Auth,
    /// The value of the `Authorization` header.
    authorization: Mutex<Option<String>>,
}

/// A document that was fetched.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What it says.
    pub document: Document,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes as they came.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: String,
}

/// How often and when something is asked again.
struct Retries {
    attempt: u32,
}

impl Session {
    pub(super) fn new(client: Client, endpoint: Endpoint, reference: &Reference, auth: &Auth) -> Self {
        // A mirror is not who the credentials are for.
        let auth = if endpoint.is_mirror() { Auth::default() } else { auth.clone() };
        let given = (!auth.registry_token.is_empty()).then(|| format!("Bearer {}", auth.registry_token));
        Self { client, endpoint, reference: reference.clone(), auth, authorization: Mutex::new(given) }
    }

    /// Fetches the manifest or index that the reference names, by its digest if it has one.
    pub async fn resolve(&self) -> Result<Fetched, Error> {
        match (self.reference.digest(), self.reference.tag()) {
            (Some(digest), _) => self.document(&digest.to_string(), Some(digest), None).await,
            (None, tag) => self.document(tag.unwrap_or("latest"), None, None).await,
        }
    }

    /// Fetches the manifest or index of a descriptor.
    pub async fn fetch(&self, descriptor: &Descriptor) -> Result<Fetched, Error> {
        self.document(&descriptor.digest.to_string(), Some(descriptor.digest), Some(descriptor)).await
    }

    async fn document(
        &self,
        name: &str,
        expected: Option<Digest>,
        descriptor: Option<&Descriptor>,
    ) -> Result<Fetched, Error> {
        let url = format!("{}/v2/{}/manifests/{name}", self.endpoint.base, self.reference.repository());
        let accept =
            [media_type::OCI_INDEX, media_type::DOCKER_LIST, media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST];
        let response = self.get(&url, Some(&accept.join(", ")), None).await?;
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, claimed) = (text(header::CONTENT_TYPE.as_str()), text("docker-content-digest"));
        let bytes = body::whole(response, Manifest::MAX_SIZE, "manifest").await?;
        let digest = Digest::of(&bytes);
        let claimed = claimed.and_then(|text| text.parse::<Digest>().ok());
        for expected in [expected, claimed].into_iter().flatten() {
            if expected != digest {
                return Err(Error::Mismatch { what: "the manifest", expected, found: digest });
            }
        }
        if let Some(descriptor) = descriptor {
            if descriptor.size != bytes.len() as u64 {
                let (size, found) = (descriptor.size, bytes.len());
                return Err(Error::Misbehaved(format!("a manifest of {size} bytes has {found} bytes")));
            }
            if let (wanted, Some(found)) = (descriptor.media_type.as_str(), content_type.as_deref())
                && !wanted.is_empty()
                && wanted != found
            {
                return Err(Error::Misbehaved(format!("a manifest of type {wanted:?} was served as {found:?}")));
            }
        }
        let document = Document::parse(&bytes, content_type.as_deref())?;
        let fallback = match document {
            Document::Index(_) => media_type::OCI_INDEX,
            Document::Manifest(_) => media_type::DOCKER_MANIFEST,
        };
        let stated = match &document {
            Document::Index(index) => index.media_type.clone(),
            Document::Manifest(manifest) => manifest.media_type.clone(),
        };
        let media_type = stated.or(content_type).unwrap_or_else(|| fallback.to_owned());
        Ok(Fetched { document, digest, bytes, media_type })
    }

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
        BlobReader {
            session: self,
            digest: descriptor.digest,
            size: descriptor.size,
            at: 0,
            body: None,
            surplus: 0,
            retries: Retries { attempt: 0 },
        }
    }

    /// Asks until there is an answer that is one: redirects are followed, tokens fetched, failures tried again.
    async fn get(&self, url: &str, accept: Option<&str>, from: Option<u64>) -> Result<Response<Incoming>, Error> {
        let mut retries = Retries { attempt: 0 };
        loop {
            match self.once(url, accept, from).await {
                Err(error) if is_transient(&error) => match retries.next(None) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                Ok(response) if is_busy(response.status()) => match retries.next(Some(response.headers())) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(self.refused(url, response).await),
                },
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => return Err(self.refused(url, response).await),
                Err(error) => return Err(error),
            }
        }
    }

    async fn once(&self, url: &str, accept: Option<&str>, from: Option<u64>) -> Result<Response<Incoming>, Error> {
        let response = self.follow(url, accept, from).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenge = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        let Some(challenge) = challenge else { return Ok(response) };
        let authorization = match challenge {
            Challenge::Basic if self.auth.username.is_empty() => return Ok(response),
            Challenge::Basic => token::basic(&self.auth),
            Challenge::Bearer { .. } if !self.auth.registry_token.is_empty() => return Ok(response),
            Challenge::Bearer { realm, service, scope } => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository()));
                let (shared, endpoint) = (&self.client.shared, &self.endpoint);
                let token = token::fetch(shared, endpoint, &realm, service.as_deref(), &scope, &self.auth).await;
                format!("Bearer {}", token?)
            }
        };
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        // Once: who is not content with what it asked for is not going to be.
        self.follow(url, accept, from).await
    }

    /// Sends one request, and follows where the answer leads. Credentials stay with the host that they are for.
    async fn follow(&self, url: &str, accept: Option<&str>, from: Option<u64>) -> Result<Response<Incoming>, Error> {
        let invalid = |url: &str| Error::Misbehaved(format!("it leads to {url:?}, which is no address"));
        let mut uri: Uri = url.parse().map_err(|_| invalid(url))?;
        let home = uri.authority().cloned();
        let mut insecure = self.endpoint.insecure;
        for _ in 0..=REDIRECTS {
            let mut request = Request::builder().method(Method::GET).uri(&uri).header(header::USER_AGENT, AGENT);
            if let Some(accept) = accept {
                request = request.header(header::ACCEPT, accept);
            }
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            if uri.authority() == home.as_ref()
                && let Some(value) = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).as_deref()
            {
                request = request.header(header::AUTHORIZATION, value);
            }
            let request = request.body(Full::new(Bytes::new())).map_err(|_| invalid(&uri.to_string()))?;
            let response = transport::send(&self.client.shared, request, insecure).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.ok_or_else(|| Error::Misbehaved("it leads to nowhere".to_owned()))?;
            let next = resolve(&uri, location).ok_or_else(|| invalid(location))?;
            // From encrypted to plain is a way down that nobody asked for.
            let downgrade = uri.scheme_str() == Some("https") && next.scheme_str() == Some("http");
            if downgrade && !self.endpoint.insecure {
                return Err(Error::Misbehaved(format!("it leads from {uri} to {next}, which is not encrypted")));
            }
            insecure = self.endpoint.insecure && next.authority() == home.as_ref();
            uri = next;
        }
        Err(Error::Misbehaved(format!("it leads on more than {REDIRECTS} times from {url}")))
    }

    async fn refused(&self, url: &str, response: Response<Incoming>) -> Error {
        let status = response.status().as_u16();
        let complaint = body::complaint(response).await;
        let (cause, name) = (complaint.text(), self.reference.familiar_name());
        let is_manifest = url.contains("/manifests/");
        match (status, complaint.code.as_str()) {
            (_, "MANIFEST_UNKNOWN") => Error::ManifestUnknown { reference: self.reference.to_string(), cause },
            (404, "NAME_UNKNOWN") => Error::NameUnknown { name, cause },
            (404, _) if is_manifest => Error::ManifestUnknown { reference: self.reference.to_string(), cause },
            (401 | 403, _) if self.auth.is_empty() => Error::Denied { name, cause },
            (403, _) | (401, "DENIED") => Error::Denied { name, cause },
            (401, _) => Error::Unauthorized(complaint.message_or("authentication required")),
            (429, _) => Error::TooManyRequests(complaint.message_or("the registry is asked too often")),
            _ => Error::Status { method: "GET", url: url.to_owned(), status, cause },
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
    body: Option<Incoming>,
    /// Bytes that come a second time, from a server that knows no ranges.
    surplus: u64,
    retries: Retries,
}

impl BlobReader<'_> {
    /// The next bytes; `None` when all have come. `retrying` is told how many seconds pass before another attempt.
    pub async fn chunk(&mut self, retrying: impl Fn(u64)) -> Result<Option<Bytes>, Error> {
        loop {
            if self.body.is_none() && self.at < self.size {
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
                    if self.at > self.size {
                        return Err(Error::Misbehaved(format!(
                            "blob {} has more than {} bytes",
                            self.digest, self.size
                        )));
                    }
                    return Ok(Some(bytes));
                }
                Ok(None) if self.at == self.size => {
                    self.body = None;
                    return Ok(None);
                }
                Ok(None) => format!("it ended after {} of {} bytes", self.at, self.size),
                Err(cause) => cause,
            };
            self.body = None;
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
        let response = session.get(&url, None, (at > 0).then_some(at)).await?;
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let resumed = at > 0 && response.status() == StatusCode::PARTIAL_CONTENT;
        let expected = if resumed { self.size - at } else { self.size };
        if let Some(length) = length.filter(|length: &u64| *length != expected) {
            let digest = self.digest;
            return Err(Error::Misbehaved(format!("blob {digest} has {length} bytes, it should have {expected}")));
        }
        self.surplus = if resumed { 0 } else { at };
        Ok(response.into_body())
    }
}

impl std::fmt::Debug for Retries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attempt {}", self.attempt)
    }
}

impl Retries {
    /// How long to wait before the next attempt, if there is to be one.
    fn next(&mut self, headers: Option<&HeaderMap>) -> Option<Duration> {
        self.attempt += 1;
        if self.attempt >= ATTEMPTS {
            return None;
        }
        let asked = headers.and_then(|headers| headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u64>().ok());
        match asked {
            Some(seconds) if seconds > MAX_WAIT => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
            None => Some(Duration::from_millis(125 << self.attempt)),
        }
    }
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || matches!(status.as_u16(), 500 | 502..=504)
}

/// Whether asking again can help. A host that nobody listens on is not going to be there in a moment.
fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Unreachable { cause, .. } if ["reset", "closed", "incomplete"].iter().any(|word| cause.contains(word)))
}

/// Where a `Location` leads.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let next: Uri = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?).parse().ok()?
    } else {
        location.parse().ok()?
    };
    let sound = matches!(next.scheme_str(), Some("http" | "https"))
        && next.host().is_some_and(|host| !host.is_empty())
        && next.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    sound.then_some(next)
}

impl body::Complaint {
    fn message_or(&self, otherwise: &str) -> String {
        if self.message.is_empty() { otherwise.to_owned() } else { self.text() }
    }
}
