//! Connections: plain, and with TLS against the authorities of the host or of one registry.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::proxy::{Proxies, Way};
use super::{Error, Shared};
use crate::tls::{Failure, Trust};

/// What is sent with a request.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
pub(super) type Plain = Client<Way, Body>;
pub(super) type Secure = Client<HttpsConnector<Way>, Body>;

/// The most that is read of a connection at once, and so the largest piece of a body.
const READ: usize = 256 << 10;
/// To connect, and until an answer begins.
const CONNECT: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(60);

fn connector(proxies: Arc<Proxies>) -> Way {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    Way { direct: connector, proxies }
}

pub(super) fn plain(proxies: Arc<Proxies>) -> Plain {
    builder().build(connector(proxies))
}

fn builder() -> Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).http1_max_buf_size(READ);
    builder
}

/// Bytes as what is sent.
pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Sends a request to where its address says, and waits for the head of the answer.
pub(super) async fn send(
    shared: &Arc<Shared>,
    mut request: Request<Body>,
    insecure: bool,
) -> Result<Response<Incoming>, Error> {
    if let Some(authorization) = shared.proxies.authorization(request.uri())
        && let Ok(value) = HeaderValue::from_str(authorization)
    {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
    }
    let url = request.uri().to_string();
    // What is sent takes its time, even over a line of 64 kB a second.
    let patience = Duration::from_secs(request.body().size_hint().upper().unwrap_or(u64::MAX >> 20) >> 16);
    let answer = patience.saturating_add(ANSWER);
    let fail = |cause: String| Error::Unreachable { url: url.clone(), cause };
    let mut key = None;
    let pending = if request.uri().scheme_str() == Some("http") {
        shared.plain.request(request)
    } else {
        let host = request.uri().authority().map(|authority| authority.as_str().to_owned()).unwrap_or_default();
        key = Some(key_of(&host, insecure));
        secure(shared, host, insecure).await?.request(request)
    };
    match tokio::time::timeout(answer, pending).await {
        Err(_) => Err(fail(format!("no answer within {} seconds", answer.as_secs()))),
        Ok(Err(error)) => {
            if let Some(key) = key.filter(|_| error.is_connect()) {
                // Somebody may mend the certificates: they are read anew the next time.
                shared.secure.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
            Err(fail(causes(&error)))
        }
        Ok(Ok(response)) => Ok(response),
    }
}

fn key_of(host: &str, insecure: bool) -> String {
    format!("{host} {insecure}")
}

/// The client for one host; its certificates are read when it is first spoken to.
async fn secure(shared: &Arc<Shared>, host: String, insecure: bool) -> Result<Secure, Error> {
    let key = key_of(&host, insecure);
    if let Some(client) = shared.secure.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return Ok(client.clone());
    }
    let certificates = shared.settings.certificates.clone();
    let load = move || config(certificates.as_deref(), &host, insecure);
    let config = tokio::task::spawn_blocking(load)
        .await
        .map_err(|_| Error::Misbehaved("the engine is shutting down".to_owned()))??;
    let inner = connector(shared.proxies.clone());
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(inner);
    let client = builder().build(connector);
    shared.secure.lock().unwrap_or_else(PoisonError::into_inner).insert(key, client.clone());
    Ok(client)
}

/// How to speak to a host by TLS. Reads the authorities.
pub(super) fn config(certificates: Option<&Path>, host: &str, insecure: bool) -> Result<ClientConfig, Error> {
    let own = certificates.map(|directory| directory.join(host));
    let mut trust = Trust { peer: host.to_owned(), unchecked: insecure, ..Trust::default() };
    if let Some(directory) = &own {
        trust.authorities = files(directory, "crt")?;
        // Who we are to a registry that wants to know.
        let certificate = files(directory, "cert")?.into_iter().next();
        trust.identity = certificate.map(|path| (path.clone(), path.with_extension("key")));
    }
    trust.config().map_err(|Failure { subject, reason }| Error::Setting { value: subject, reason })
}

/// The files of a directory, which need not be there, that end like this, by name.
fn files(directory: &Path, ending: &str) -> Result<Vec<PathBuf>, Error> {
    let refuse =
        |error: std::io::Error| Error::Setting { value: directory.display().to_string(), reason: error.to_string() };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(refuse(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(refuse)?.path();
        if path.extension().is_some_and(|extension| extension == ending) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// All that an error says, the innermost last.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        inner = error.source();
    }
    text
}
