//! A conversation with one registry about one repository.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::challenge::{self, Challenge};
use super::endpoint::Endpoint;
use super::upload::Content;
use super::{Auth, Client, Error, body, token, transport};
use crate::oci::{Descriptor, Digest, Document, Manifest, Reference, media_type, told_by};

pub(super) const AGENT: &str = concat!("engine/", env!("CARGO_PKG_VERSION"));

/// Redirects that are followed, and attempts at what may work the next time.
pub(super) const REDIRECTS: usize = 5;
const ATTEMPTS: u32 = 5;
/// The longest wait that a registry can impose, in seconds.
const MAX_WAIT: u64 = 30;

/// A conversation. It remembers what the registry wants to see.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    pub(super) endpoint: Endpoint,
    pub(super) reference: Reference,
    auth: Auth,
    /// What is to be done with the repository, in the words of tokens.
    actions: &'static str,
    /// Other repositories that are to be read, for blobs that are there.
    sources: Vec<String>,
    /// The value of the `Authorization` header.
    authorization: Mutex<Option<String>>,
    /// The refresh token that was given with it, where one is asked for.
    refresh: Option<Mutex<Option<String>>>,
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
#[derive(Debug, Default)]
pub(super) struct Retries {
    attempt: u32,
}

/// One question to the registry.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) content: Content,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, url: &'a str) -> Self {
        Self { method, url, headers: Vec::new(), content: Content::None }
    }

    pub(super) fn get(url: &'a str) -> Self {
        Self::new(Method::GET, url)
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn content(mut self, content: Content) -> Self {
        self.content = content;
        self
    }
}

impl Session {
    pub(super) fn new(client: Client, endpoint: Endpoint, reference: &Reference, auth: &Auth) -> Self {
        Self::with(client, endpoint, reference, auth, "pull", Vec::new())
    }

    pub(super) fn with(
        client: Client,
        endpoint: Endpoint,
        reference: &Reference,
        auth: &Auth,
        actions: &'static str,
        sources: Vec<String>,
    ) -> Self {
        // A mirror is not who the credentials are for.
        let auth = if endpoint.is_mirror() { Auth::default() } else { auth.clone() };
        let reference = reference.clone();
        let authorization = Mutex::default();
        let session = Self { client, endpoint, reference, auth, actions, sources, authorization, refresh: None };
        let given = if session.auth.registry_token.is_empty() {
            let remembered = &session.client.shared.remembered;
            remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&session.key())
        } else {
            Some(format!("Bearer {}", session.auth.registry_token))
        };
        *session.authorization.lock().unwrap_or_else(PoisonError::into_inner) = given;
        session
    }

    /// Connections that one pull may have at once; at least one.
    pub fn connections(&self) -> usize {
        self.client.concurrent_downloads()
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
        let ask = Ask::get(&url).header(header::ACCEPT, accept.join(", "));
        let mut retries = Retries::default();
        let (bytes, headers) = loop {
            let response = self.ask(&ask).await?;
            let headers = response.headers().clone();
            match body::whole(response, Manifest::MAX_SIZE, "manifest").await {
                Ok(bytes) => break (bytes, headers),
                Err(error @ Error::Unreachable { .. }) => match retries.next(None) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        };
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, claimed) = (text(header::CONTENT_TYPE.as_str()), text("docker-content-digest"));
        let digest = Digest::of(&bytes);
        let claimed = claimed.and_then(|text| text.parse::<Digest>().ok());
        for expected in [expected, claimed].into_iter().flatten() {
            if expected != digest {
                return Err(Error::Mismatch { what: "the manifest", expected, found: digest });
            }
        }
        if let Some(descriptor) = descriptor
            && descriptor.size != bytes.len() as u64
        {
            let (size, found) = (descriptor.size, bytes.len());
            return Err(Error::Misbehaved(format!("a manifest of {size} bytes has {found} bytes")));
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
        let told = stated.or_else(|| content_type.as_deref().and_then(told_by).map(str::to_owned));
        let wanted = descriptor.map(|descriptor| descriptor.media_type.as_str()).filter(|wanted| !wanted.is_empty());
        if let (Some(wanted), Some(found)) = (wanted, &told)
            && wanted != found
        {
            return Err(Error::Misbehaved(format!("a manifest of type {wanted:?} was served as {found:?}")));
        }
        let media_type = told.unwrap_or_else(|| wanted.unwrap_or(fallback).to_owned());
        Ok(Fetched { document, digest, bytes, media_type })
    }

    /// Asks until there is an answer that is one: redirects are followed, tokens fetched, failures tried again.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Error> {
        let mut retries = Retries::default();
        loop {
            match self.once(ask).await {
                Err(error) if is_transient(&error) => match retries.next(None) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                Ok(response) if is_busy(response.status()) => match retries.next(Some(response.headers())) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(self.refused(ask, response).await),
                },
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => return Err(self.refused(ask, response).await),
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks once, and once more with what the registry wants to see. The answer may be a refusal.
    pub(super) async fn once(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Error> {
        let mut shown = self.authorization();
        let mut response = self.follow(ask).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.authorization() != shown {
            // Somebody else of this conversation has found out meanwhile.
            shown = self.authorization();
            response = self.follow(ask).await?;
        }
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
                let scopes = self.scopes(scope);
                let (shared, endpoint) = (&self.client.shared, &self.endpoint);
                let (service, lasting) = (service.as_deref(), self.refresh.is_some());
                let wanted = token::Wanted { service, scopes: &scopes, lasting };
                let given = token::fetch(shared, endpoint, &realm, wanted, &self.auth).await?;
                if let (Some(refresh), Some(token)) = (&self.refresh, given.refresh) {
                    *refresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                }
                format!("Bearer {}", given.token)
            }
        };
        if shown.as_ref() == Some(&authorization) {
            // Who is not content with what it has seen is not going to be.
            return Ok(response);
        }
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization.clone());
        let remembered = &self.client.shared.remembered;
        remembered.lock().unwrap_or_else(PoisonError::into_inner).put(self.key(), authorization);
        self.follow(ask).await
    }

    /// What the token is to be good for: what the registry says, and what will be done with it.
    fn scopes(&self, asked: Option<String>) -> Vec<String> {
        if self.actions.is_empty() {
            return asked.into_iter().collect();
        }
        let own = format!("repository:{}:{}", self.reference.repository(), self.actions);
        let mut scopes = vec![own];
        // The registry's own words count where they are about something else, such as the catalogue.
        let prefix = format!("repository:{}:", self.reference.repository());
        scopes.extend(asked.filter(|asked| !asked.starts_with(&prefix)));
        scopes.extend(self.sources.iter().map(|source| format!("repository:{source}:pull")));
        scopes
    }

    /// Under what the client remembers what this registry wanted to see.
    fn key(&self) -> String {
        let who = Digest::of(token::basic(&self.auth).as_bytes());
        let token = Digest::of(self.auth.identity_token.as_bytes());
        let (base, repository) = (&self.endpoint.base, self.reference.repository());
        format!("{base} {repository} {} {} {} {}", self.actions, self.sources.join(","), who.short(), token.short())
    }

    /// As somebody whom the registry has never seen, and who wants to be given what it takes to come back without a password.
    pub(super) fn introduced(mut self) -> Self {
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.refresh = Some(Mutex::default());
        self
    }

    /// What it takes to come back.
    pub(super) fn refresh_token(&self) -> Option<String> {
        self.refresh.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends one request, and follows where the answer leads. Credentials stay with the host that they are for.
    async fn follow(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Error> {
        let invalid = |url: &str| Error::Misbehaved(format!("it leads to {url:?}, which is no address"));
        let mut uri: Uri = ask.url.parse().map_err(|_| invalid(ask.url))?;
        let home: Option<Authority> = self.endpoint.base.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned());
        let mut insecure = self.endpoint.insecure && uri.authority() == home.as_ref();
        for _ in 0..=REDIRECTS {
            let mut request = Request::builder().method(ask.method.clone()).uri(&uri).header(header::USER_AGENT, AGENT);
            for (name, value) in &ask.headers {
                request = request.header(name, value);
            }
            if uri.authority() == home.as_ref()
                && let Some(value) = self.authorization()
            {
                request = request.header(header::AUTHORIZATION, value);
            }
            let request = request.body(ask.content.body()?).map_err(|_| invalid(&uri.to_string()))?;
            let response = transport::send(&self.client.shared, request, insecure).await?;
            let follows = matches!(ask.method, Method::GET | Method::HEAD);
            if !response.status().is_redirection() || !follows {
                return Ok(response);
            }
            let location = location(&response)?;
            let next = resolve(&uri, location).ok_or_else(|| invalid(location))?;
            // From encrypted to plain is a way down that nobody asked for.
            let downgrade = uri.scheme_str() == Some("https") && next.scheme_str() == Some("http");
            if downgrade && !self.endpoint.insecure {
                return Err(Error::Misbehaved(format!("it leads from {uri} to {next}, which is not encrypted")));
            }
            insecure = self.endpoint.insecure && next.authority() == home.as_ref();
            uri = next;
        }
        Err(Error::Misbehaved(format!("it leads on more than {REDIRECTS} times from {}", ask.url)))
    }

    /// Where an answer to `url` leads, as an address.
    pub(super) fn led(&self, url: &str, response: &Response<Incoming>) -> Result<String, Error> {
        let from: Uri = url.parse().map_err(|_| Error::Misbehaved(format!("{url:?} is no address")))?;
        let location = location(response)?;
        let next = resolve(&from, location)
            .ok_or_else(|| Error::Misbehaved(format!("it leads to {location:?}, which is no address")))?;
        let downgrade = from.scheme_str() == Some("https") && next.scheme_str() == Some("http");
        if downgrade && !self.endpoint.insecure {
            return Err(Error::Misbehaved(format!("it leads from {from} to {next}, which is not encrypted")));
        }
        Ok(next.to_string())
    }

    pub(super) async fn refused(&self, ask: &Ask<'_>, response: Response<Incoming>) -> Error {
        let url = ask.url;
        let status = response.status().as_u16();
        let complaint = body::complaint(response).await;
        let (cause, name) = (complaint.text(), self.reference.familiar_name());
        let is_manifest = url.contains("/manifests/");
        let action = if self.actions.contains("push") { "push" } else { "pull" };
        match (status, complaint.code.as_str()) {
            (_, "MANIFEST_UNKNOWN") => Error::ManifestUnknown { reference: self.reference.to_string(), cause },
            (404, "NAME_UNKNOWN") => Error::NameUnknown { name, cause },
            (404, _) if is_manifest => Error::ManifestUnknown { reference: self.reference.to_string(), cause },
            (401 | 403, _) if self.auth.is_empty() => Error::Denied { action, name, cause },
            (403, _) | (401, "DENIED") => Error::Denied { action, name, cause },
            (401, _) => Error::Unauthorized(complaint.message_or("authentication required")),
            (429, _) => Error::TooManyRequests(complaint.message_or("the registry is asked too often")),
            _ => Error::Status { method: ask.method.to_string(), url: url.to_owned(), status, cause },
        }
    }
}

impl Retries {
    /// How long to wait before the next attempt, if there is to be one.
    pub(super) fn next(&mut self, headers: Option<&HeaderMap>) -> Option<Duration> {
        self.attempt += 1;
        if self.attempt >= ATTEMPTS {
            return None;
        }
        match headers.and_then(asked_pause) {
            Some(seconds) if seconds > MAX_WAIT => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
            // Many that were turned away at once must not come back at once.
            None => Some(jitter(Duration::from_millis(125 << self.attempt))),
        }
    }
}

/// `Retry-After`, which is a number of seconds or a date, in seconds.
fn asked_pause(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    text.parse().ok().or_else(|| {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
        Some(u64::try_from(at - jiff::Timestamp::now().as_second()).unwrap_or(0))
    })
}

/// Half of it to all of it.
fn jitter(pause: Duration) -> Duration {
    let random = engine_sys::file::random().unwrap_or(u64::MAX);
    let share = u32::try_from(random & 0xffff).unwrap_or(0);
    pause / 2 + pause / 2 * share / 0xffff
}

pub(super) fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || matches!(status.as_u16(), 500 | 502..=504)
}

/// Whether asking again can help. A host that nobody listens on is not going to be there in a moment.
pub(super) fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Unreachable { cause, .. } if ["reset", "closed", "incomplete"].iter().any(|word| cause.contains(word)))
}

pub(super) fn location(response: &Response<Incoming>) -> Result<&str, Error> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    location.ok_or_else(|| Error::Misbehaved("it leads to nowhere".to_owned()))
}

/// Where a `Location` leads.
pub(super) fn resolve(from: &Uri, location: &str) -> Option<Uri> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pause(attempt: u32, asked: &str) -> Option<Duration> {
        let headers = [(header::RETRY_AFTER, asked.parse().unwrap())].into_iter().collect();
        Retries { attempt }.next(Some(&headers))
    }

    #[test]
    fn who_is_turned_away_comes_back_when_it_was_told_to() {
        assert_eq!(pause(0, "7"), Some(Duration::from_secs(7)));
        assert_eq!((pause(0, "31"), pause(ATTEMPTS - 1, "0")), (None, None));
        let at = |seconds: i64| {
            let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
            jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
        };
        let soon = pause(0, &at(10)).unwrap().as_secs();
        assert!((8..=10).contains(&soon), "{soon}");
        assert_eq!((pause(0, &at(-10)), pause(0, &at(3600))), (Some(Duration::ZERO), None));
        assert_eq!(pause(0, "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        // What is neither is as if nothing had been said.
        for attempt in 0..ATTEMPTS - 1 {
            let most = Duration::from_millis(250 << attempt);
            let pause = pause(attempt, "soon").unwrap();
            assert!(pause >= most / 2 && pause <= most, "{pause:?}");
        }
    }
}
