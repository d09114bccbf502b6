//! Tokens that registries want to see, from where they send us for them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use serde::Deserialize;

use super::endpoint::Endpoint;
use super::session::{Retries, is_busy, is_transient};
use super::{Auth, Error, Shared, body, transport};

const MAX_TOKEN: u64 = 64 << 10;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// What was given.
pub(super) struct Given {
    /// The token.
    pub(super) token: String,
    /// One that further tokens are had for, in place of a password.
    pub(super) refresh: Option<String>,
}

/// What a token is for.
pub(super) struct Wanted<'a> {
    pub(super) service: Option<&'a str>,
    pub(super) scopes: &'a [String],
    /// Ask for a refresh token as well.
    pub(super) lasting: bool,
}

/// `Basic` and the account, for a header.
pub(super) fn basic(auth: &Auth) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", auth.username, auth.password)))
}

/// Fetches a token. Who gives them is asked again when he is busy, as registries are.
pub(super) async fn fetch(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    realm: &str,
    Wanted { service, scopes, lasting }: Wanted<'_>,
    auth: &Auth,
) -> Result<Given, Error> {
    let uri = check(endpoint, realm)?;
    let separator = if uri.query().is_some() { '&' } else { '?' };
    let mut query = Vec::new();
    if let Some(service) = service {
        query.push(format!("service={}", escape(service)));
    }
    query.extend(scopes.iter().map(|scope| format!("scope={}", escape(scope))));
    let (method, address, content) = if auth.identity_token.is_empty() {
        if !auth.username.is_empty() {
            query.push(format!("account={}", escape(&auth.username)));
            if lasting {
                query.extend(["client_id=engine", "offline_token=true"].map(str::to_owned));
            }
        }
        (Method::GET, format!("{uri}{separator}{}", query.join("&")), String::new())
    } else {
        query.push("grant_type=refresh_token".to_owned());
        query.push("client_id=engine".to_owned());
        query.push(format!("refresh_token={}", escape(&auth.identity_token)));
        if scopes.len() > 1 {
            // A form has one field of a name.
            query.retain(|field| !field.starts_with("scope="));
            query.push(format!("scope={}", escape(&scopes.join(" "))));
        }
        (Method::POST, uri.to_string(), query.join("&"))
    };
    let request = || {
        let mut request = Request::builder().method(&method).uri(&address);
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        } else if !auth.username.is_empty() {
            request = request.header(header::AUTHORIZATION, basic(auth));
        }
        request
            .header(header::USER_AGENT, super::session::AGENT)
            .body(transport::full(Bytes::from(content.clone())))
            .map_err(|_| Error::Misbehaved(format!("it sends us to {realm:?} for a token")))
    };
    let mut retries = Retries::default();
    let response = loop {
        let response = transport::send(shared, request()?, endpoint.insecure).await;
        let pause = match &response {
            Err(error) if is_transient(error) => retries.next(None),
            Ok(response) if is_busy(response.status()) => retries.next(Some(response.headers())),
            _ => None,
        };
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => break response?,
        }
    };
    let status = response.status().as_u16();
    match status {
        200 => {}
        401 | 403 => return Err(Error::Unauthorized(body::complaint(response).await.text())),
        429 => return Err(Error::TooManyRequests(body::complaint(response).await.text())),
        _ => {
            let cause = body::complaint(response).await.text();
            return Err(Error::Status { method: method.to_string(), url: uri.to_string(), status, cause });
        }
    }
    let bytes = body::whole(response, MAX_TOKEN, "token").await?;
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|error| Error::Misbehaved(format!("its token: {error}")))?;
    let token = answer.token.or(answer.access_token).unwrap_or_default();
    // A token goes into a header as it is.
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::Misbehaved("its token is none".to_owned()));
    }
    Ok(Given { token, refresh: answer.refresh_token.filter(|token| !token.is_empty()) })
}

/// Whether a registry may send us there. Credentials go only over TLS, or to the very host that we speak to plainly
/// anyway; and no registry gets to use us as a way to addresses that only this host can reach.
fn check(endpoint: &Endpoint, realm: &str) -> Result<Uri, Error> {
    let refuse = |reason: &str| Error::Misbehaved(format!("it sends us to {realm:?} for a token, {reason}"));
    let uri: Uri = realm.parse().map_err(|_| refuse("which is no address"))?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| refuse("which has no host"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(refuse("with a name in it"));
    }
    let own = format!("http://{}", endpoint.host).parse::<Uri>().ok();
    let same = own.as_ref().and_then(Uri::host) == Some(host);
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if endpoint.is_plain() && same => {}
        _ => return Err(refuse("which is not encrypted")),
    }
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_inner = address.is_ok_and(|address| match address {
        std::net::IpAddr::V4(address) => address.is_link_local() || address.is_loopback() || address.is_unspecified(),
        std::net::IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.is_loopback() || address.is_unspecified()
        }
    });
    if (is_inner || host == "localhost") && !same {
        return Err(refuse("which is this host's own"));
    }
    Ok(uri)
}

/// Percent-encoding of all but what never needs it.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(base: &str, insecure: bool) -> Endpoint {
        let host = base.split_once("://").map_or("", |(_, host)| host).to_owned();
        Endpoint { base: base.to_owned(), host, insecure, mirror: false }
    }

    #[test]
    fn registries_cannot_send_us_anywhere() {
        let secure = endpoint("https://registry.example", false);
        let local = endpoint("http://127.0.0.1:5000", true);
        for (endpoint, realm) in [
            (&secure, "https://auth.example/token"),
            (&secure, "https://auth.example/token?a=b"),
            (&local, "http://127.0.0.1:5001/token"),
            (&local, "https://auth.example/token"),
        ] {
            assert!(check(endpoint, realm).is_ok(), "{realm}");
        }
        for (endpoint, realm) in [
            (&secure, "http://auth.example/token"),
            (&secure, "https://169.254.169.254/latest"),
            (&secure, "https://127.0.0.1/token"),
            (&secure, "https://localhost/token"),
            (&secure, "https://[::1]/token"),
            (&secure, "https://user:password@auth.example/"),
            (&secure, "file:///etc/passwd"),
            (&secure, "/token"),
            (&secure, ""),
            (&local, "http://169.254.169.254/latest"),
            (&local, "http://localhost:80/"),
        ] {
            assert!(check(endpoint, realm).is_err(), "{realm}");
        }
    }

    #[test]
    fn what_goes_into_an_address_is_escaped() {
        assert_eq!(escape("repository:a/b:pull"), "repository%3Aa%2Fb%3Apull");
        assert_eq!(escape("a&b=\r\nc"), "a%26b%3D%0D%0Ac");
    }
}
