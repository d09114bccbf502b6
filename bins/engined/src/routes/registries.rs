//! What is asked of registries: `/auth`, `/distribution` and `/images/search`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use engine::image::ReferrerOptions;
use engine::oci::Reference;
use engine::registry::Auth;
use engine_api::image::{DistributionInspect, DistributionReferrers, LoginAnswer, RegistryAuth, SearchResult};
use engine_api::json;
use http::StatusCode;

use crate::convert::image::{descriptor, platform};
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::routes::transfers::platform as asked_platform;

/// `POST /auth`
pub(crate) async fn log_in(call: Call) -> Result<Response, Error> {
    let asked: RegistryAuth = extract::json(&call.headers, call.body).await?;
    let server = asked.serveraddress.clone();
    let auth = auth_of(asked);
    if auth.is_empty() {
        return Err(Error::invalid("no credentials were given"));
    }
    let token = call.daemon.engine.images().registry().log_in(&server, &auth).await?;
    let answer = LoginAnswer { status: "Login Succeeded".to_owned(), identity_token: token.unwrap_or_default() };
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `GET /distribution/{name}/json`
pub(crate) async fn distribution(call: Call) -> Result<Response, Error> {
    let reference: Reference = call.name.parse().map_err(|error| Error::invalid(format!("{error}")))?;
    let auth = auth(call.headers.get("X-Registry-Auth"));
    let found = call.daemon.engine.images().look_up(&reference, &auth).await?;
    let answer = DistributionInspect {
        descriptor: descriptor(&found.descriptor),
        platforms: found.platforms.iter().map(platform).collect(),
    };
    Ok(reply::json(StatusCode::OK, &answer))
}

/// `GET /distribution/{name}/manifest`, which is this engine's own: the manifest or index, byte for byte.
pub(crate) async fn document(call: Call) -> Result<Response, Error> {
    let reference: Reference = call.name.parse().map_err(|error| Error::invalid(format!("{error}")))?;
    let auth = auth(call.headers.get("X-Registry-Auth"));
    let found = call.daemon.engine.images().look_up(&reference, &auth).await?;
    Ok(reply::document(found.document))
}

/// `GET /distribution/{name}/referrers`: signatures, bills of materials and what else refers to an image.
pub(crate) async fn referrers(call: Call) -> Result<Response, Error> {
    let reference: Reference = call.name.parse().map_err(|error| Error::invalid(format!("{error}")))?;
    let options = ReferrerOptions {
        kind: Some(call.query.text("artifactType").to_owned()).filter(|kind| !kind.is_empty()),
        platform: asked_platform(call.query.text("platform"))?,
        auth: auth(call.headers.get("X-Registry-Auth")),
    };
    let found = call.daemon.engine.images().referrers(&reference, &options).await?;
    let answer = DistributionReferrers {
        subject: descriptor(&found.subject),
        referrers: found.referrers.iter().map(descriptor).collect(),
    };
    Ok(reply::json(StatusCode::OK, &answer))
}

/// What one search gives at most, as Docker has it.
const MOST: usize = 100;

/// `GET /images/search`
pub(crate) async fn search(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["is-automated", "is-official", "stars"])?;
    let limit = match call.query.integer("limit")? {
        None | Some(0) => 25,
        Some(limit) => usize::try_from(limit)
            .ok()
            .filter(|limit| *limit <= MOST)
            .ok_or_else(|| Error::invalid(format!("limit {limit} is outside the range of [1, {MOST}]")))?,
    };
    let official = if filters.contains("is-official") { Some(filters.boolean("is-official", false)?) } else { None };
    let automated = if filters.contains("is-automated") { Some(filters.boolean("is-automated", false)?) } else { None };
    let mut stars = 0;
    for text in filters.get("stars") {
        let least = text.parse::<i64>().map_err(|_| Error::invalid(format!("invalid filter 'stars={text}'")))?;
        stars = stars.max(least);
    }
    let auth = auth(call.headers.get("X-Registry-Auth"));
    let found = call.daemon.engine.images().registry().search(call.query.text("term"), limit, &auth).await?;
    let found = found.into_iter().filter(|one| {
        one.stars >= stars
            && official.is_none_or(|official| one.is_official == official)
            && automated.is_none_or(|automated| one.is_automated == automated)
    });
    let found: Vec<_> = found
        .map(|one| SearchResult {
            star_count: one.stars,
            is_official: one.is_official,
            name: one.name,
            is_automated: one.is_automated,
            description: one.description,
        })
        .collect();
    Ok(reply::json(StatusCode::OK, &found))
}

/// Credentials of the header; what cannot be read is no credentials, as Docker has it for pulls.
pub(crate) fn auth(header: Option<&http::HeaderValue>) -> Auth {
    let read = || {
        let text = header?.as_bytes();
        let bytes = URL_SAFE.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
        json::from_slice::<RegistryAuth>(&bytes).ok()
    };
    auth_of(read().unwrap_or_default())
}

pub(crate) fn auth_of(asked: RegistryAuth) -> Auth {
    let mut auth = Auth {
        username: asked.username,
        password: asked.password,
        identity_token: asked.identitytoken,
        registry_token: asked.registrytoken,
    };
    // Some clients send what stands in their configuration: both in one.
    let both = STANDARD.decode(asked.auth).ok().and_then(|both| String::from_utf8(both).ok());
    if auth.is_empty()
        && let Some((username, password)) = both.as_deref().and_then(|both| both.split_once(':'))
    {
        auth.username = username.to_owned();
        auth.password = password.to_owned();
    }
    auth
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn credentials_come_in_several_forms() {
        let of = |json: &str, padded: bool| {
            let text = if padded { URL_SAFE.encode(json) } else { URL_SAFE_NO_PAD.encode(json) };
            let auth = auth(Some(&HeaderValue::from_str(&text).unwrap()));
            (auth.username, auth.password)
        };
        let pair = ("me".to_owned(), "pass".to_owned());
        assert_eq!(of(r#"{"username":"me","password":"pass"}"#, true), pair);
        assert_eq!(of(r#"{"username":"me","password":"pass"}"#, false), pair);
        assert_eq!(of(r#"{"auth":"bWU6cGFzcw=="}"#, true), pair);
        assert!(auth(Some(&HeaderValue::from_static("{"))).is_empty() && auth(None).is_empty());
    }
}
