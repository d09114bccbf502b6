//! What is asked of a registry as a whole: whether it knows who asks, and what it has.

use http::Method;
use serde::Deserialize;

use super::session::Ask;
use super::{Auth, Client, Endpoint, Error, body, token};
use crate::oci::Reference;

/// A repository that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// How many people marked it.
    #[serde(rename = "star_count")]
    pub stars: i64,
    /// Whether Docker stands behind it.
    pub is_official: bool,
    /// Whether it was built by Docker Hub.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default)]
    results: Vec<Found>,
}

const HUB: &str = "docker.io";
/// Where Docker Hub is searched, which is not where its images are.
const HUB_INDEX: &str = "index.docker.io";
const MAX_RESULTS: u64 = 4 << 20;

impl Client {
    /// Asks a registry, as `host[:port]` or the address that clients keep logins under, whether it knows who asks. Where it gives
    /// an identity token that stands for the password from now on, that is the answer.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] when it does not.
    pub async fn log_in(&self, server: &str, auth: &Auth) -> Result<Option<String>, Error> {
        let mut first = None;
        for endpoint in self.endpoints_of(server)? {
            match self.greet(endpoint, server, auth).await {
                Err(error @ Error::Unreachable { .. }) => {
                    first.get_or_insert(error);
                }
                Err(Error::Status { status: 400, method, url, cause }) => {
                    first.get_or_insert(Error::Status { status: 400, method, url, cause });
                }
                other => return other,
            }
        }
        Err(first.unwrap_or_else(|| wrong_server(server)))
    }

    async fn greet(&self, endpoint: Endpoint, server: &str, auth: &Auth) -> Result<Option<String>, Error> {
        let url = format!("{}/v2/", endpoint.base);
        let nobody: Reference = format!("{}/any", host_of(server)).parse()?;
        // What is remembered of others must not let this one in, nor what is remembered of this one.
        let session = super::Session::with(self.clone(), endpoint, &nobody, auth, "", Vec::new()).introduced();
        let ask = Ask::get(&url);
        let response = session.once(&ask).await?;
        match response.status().as_u16() {
            // Who came with a token keeps that one.
            200..300 => {
                let kept = Some(auth.identity_token.clone()).filter(|token| !token.is_empty());
                Ok(session.refresh_token().or(kept))
            }
            401 | 403 => {
                let status = response.status();
                let cause = body::complaint(response).await.text();
                Err(Error::Unauthorized(format!("login attempt to {url} failed with status: {status}: {cause}")))
            }
            _ => Err(session.refused(&ask, response).await),
        }
    }

    /// The places of a registry itself, no mirrors.
    fn endpoints_of(&self, server: &str) -> Result<Vec<Endpoint>, Error> {
        let nobody: Reference = format!("{}/any", host_of(server)).parse().map_err(|_| wrong_server(server))?;
        Ok(self.destinations(&nobody))
    }

    /// Searches Docker Hub, or the registry that the term begins with, as in `localhost:5000/term`.
    ///
    /// # Errors
    /// [`Error::NoSearch`] when it offers none; few do.
    pub async fn search(&self, term: &str, limit: usize, auth: &Auth) -> Result<Vec<Found>, Error> {
        let is_host = |first: &str| first == "localhost" || first.contains(['.', ':']);
        let (server, term) = match term.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => (HUB, term),
        };
        let mut last = None;
        for mut endpoint in self.endpoints_of(server)? {
            if server == HUB {
                endpoint.base = format!("https://{HUB_INDEX}");
            }
            let url = format!("{}/v1/search?q={}&n={limit}", endpoint.base, token::escape(term));
            let nobody: Reference = format!("{server}/any").parse()?;
            let session = super::Session::with(self.clone(), endpoint, &nobody, auth, "", Vec::new());
            let ask = Ask::new(Method::GET, &url);
            match session.ask(&ask).await {
                Ok(response) => {
                    let bytes = body::whole(response, MAX_RESULTS, "list of what was found").await?;
                    let found: Results =
                        serde_json::from_slice(&bytes).map_err(|_| Error::NoSearch { registry: server.to_owned() })?;
                    return Ok(found.results.into_iter().take(limit).collect());
                }
                Err(Error::NameUnknown { .. } | Error::Status { status: 404 | 405, .. }) => {
                    return Err(Error::NoSearch { registry: server.to_owned() });
                }
                Err(error @ (Error::Unreachable { .. } | Error::Status { status: 400, .. })) => {
                    last.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| wrong_server(server)))
    }
}

fn wrong_server(server: &str) -> Error {
    Error::Setting { value: server.to_owned(), reason: "a registry is a host with a port perhaps".to_owned() }
}

/// `https://index.docker.io/v1/` is what clients call Docker Hub.
fn host_of(server: &str) -> &str {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest).split('/').next().unwrap_or_default();
    match host {
        "" | HUB_INDEX | "registry-1.docker.io" => HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_in_several_ways() {
        for (server, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("", "docker.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://localhost:5000/v2/", "localhost:5000"),
        ] {
            assert_eq!(host_of(server), host);
        }
    }
}
