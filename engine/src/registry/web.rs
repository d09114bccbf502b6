//! A file anywhere on the web, by its address: what an import names. It is fetched the way everything is, through the proxies
//! and with the authorities of the settings, and nobody says who asks.

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use hyper::body::{Body as _, Incoming};

use super::session::{AGENT, REDIRECTS, Retries, is_busy, is_transient, location, resolve};
use super::{Client, Error, body, transport};

/// A file on its way.
#[derive(Debug)]
pub struct WebFile {
    address: String,
    body: Incoming,
    size: Option<u64>,
}

impl Client {
    /// Begins to fetch the file at an address, which begins with `http://` or `https://`; where that leads on is followed, but
    /// not from an encrypted address to a plain one.
    ///
    /// # Errors
    /// When the address is none, or nothing is to be had there.
    pub async fn file(&self, address: &str) -> Result<WebFile, Error> {
        let wrong = || Error::Setting {
            value: address.rsplit('@').next().unwrap_or_default().to_owned(),
            reason: "it is no address of a file on the web, such as https://example.org/rootfs.tar.gz".to_owned(),
        };
        let mut uri: Uri = address.parse().ok().and_then(|any: Uri| resolve(&any, address)).ok_or_else(wrong)?;
        let mut retries = Retries::default();
        let mut redirects = 0;
        loop {
            let request = Request::builder().method(Method::GET).uri(&uri).header(header::USER_AGENT, AGENT);
            let request = request.body(transport::full(Bytes::new())).map_err(|_| wrong())?;
            let response = transport::send(&self.shared, request, false).await;
            let pause = match &response {
                Err(error) if is_transient(error) => retries.next(None),
                Ok(response) if is_busy(response.status()) => retries.next(Some(response.headers())),
                _ => None,
            };
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
                continue;
            }
            let response = response?;
            if response.status().is_redirection() {
                redirects += 1;
                if redirects > REDIRECTS {
                    return Err(Error::Misbehaved(format!("it leads on more than {REDIRECTS} times from {address}")));
                }
                let next = resolve(&uri, location(&response)?)
                    .filter(|next| uri.scheme_str() != Some("https") || next.scheme_str() == Some("https"));
                uri = next.ok_or_else(|| Error::Misbehaved(format!("{uri} leads where nobody should follow")))?;
                continue;
            }
            if !response.status().is_success() {
                let status = response.status().as_u16();
                let cause = body::complaint(response).await.text();
                return Err(Error::Status { method: "GET".to_owned(), url: uri.to_string(), status, cause });
            }
            let size = response.body().size_hint().exact();
            return Ok(WebFile { address: uri.to_string(), body: response.into_body(), size });
        }
    }
}

impl WebFile {
    /// Its bytes in all, if that was said.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        body::chunk(&mut self.body).await.map_err(|cause| body::broken(&self.address, &cause))
    }
}
