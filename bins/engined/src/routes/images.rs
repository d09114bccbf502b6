//! `/images`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use engine::image::{Image, ImportOptions, PullOptions, RemoveOptions};
use engine::oci::Reference;
use engine::registry::Auth;
use engine_api::filter::Filters;
use engine_api::image::{ImagePrune, RegistryAuth};
use engine_api::json;
use futures_util::TryStreamExt;
use http::StatusCode;
use http_body_util::BodyDataStream;
use tokio_util::io::StreamReader;

use crate::convert::image::{fits, history as history_of, inspect as inspect_of, removed, summary};
use crate::convert::{nil_when_empty, time};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::routes::prune_alone;
use crate::stream::progress;

/// `GET /images/json`
pub(crate) async fn list(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["dangling", "label", "label!", "before", "since", "reference", "until"])?;
    let images = call.daemon.engine.images();
    let created = async |name: &str| Ok::<_, Error>(images.get(name).await?.created().map_or(0, time::seconds_of));
    let (mut before, mut since) = (i64::MAX, i64::MIN);
    for name in filters.get("before") {
        before = before.min(created(name).await?);
    }
    for name in filters.get("since") {
        since = since.max(created(name).await?);
    }
    for text in filters.get("until") {
        before = before.min(time::seconds(time::until(text)?));
    }
    let dangling = if filters.contains("dangling") { Some(filters.boolean("dangling", false)?) } else { None };
    let mut listed = Vec::new();
    for image in images.list().await? {
        let at = image.created().map_or(0, time::seconds_of);
        let labels = &image.config().config.labels;
        let wanted = at < before
            && at > since
            && dangling.is_none_or(|dangling| image.references().is_empty() == dangling)
            && filters.all_labels("label", labels)
            && filters.no_label("label!", labels);
        let tags = tags(&image, &filters);
        if wanted && (!filters.contains("reference") || !tags.is_empty()) {
            listed.push(summary(&image, tags, call.version));
        }
    }
    listed.sort_by_key(|summary| std::cmp::Reverse(summary.created));
    Ok(reply::json(StatusCode::OK, &listed))
}

/// The names that the filter `reference` lets through, of whole names or of those without a tag.
fn tags(image: &Image, filters: &Filters) -> Vec<String> {
    let wanted = |reference: &&Reference| {
        filters.any("reference", |pattern| {
            fits(pattern, &reference.to_string()) || fits(pattern, &reference.familiar_name())
        })
    };
    image.references().iter().filter(wanted).map(ToString::to_string).collect()
}

/// `GET /images/{name}/json`
pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let image = call.daemon.engine.images().get(&call.name).await?;
    Ok(reply::json(StatusCode::OK, &inspect_of(&image, call.version)))
}

/// `GET /images/{name}/history`
pub(crate) async fn history(call: Call) -> Result<Response, Error> {
    let images = call.daemon.engine.images();
    let image = images.get(&call.name).await?;
    let sizes = image.layer_sizes();
    Ok(reply::json(StatusCode::OK, &history_of(&image, |layer| sizes.get(layer).copied().unwrap_or(0))))
}

/// `POST /images/{name}/tag`
pub(crate) async fn tag(call: Call) -> Result<Response, Error> {
    let images = call.daemon.engine.images();
    let reference = named(call.query.text("repo"), call.query.text("tag"))?;
    if reference.digest().is_some() {
        return Err(Error::invalid("refusing to create a tag with a digest reference"));
    }
    let image = images.get(&call.name).await?;
    images.tag(&image, &reference).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`
pub(crate) async fn remove(call: Call) -> Result<Response, Error> {
    let options = RemoveOptions {
        force: call.query.boolean("force"),
        prune_children: !call.query.boolean("noprune"),
        running: call.daemon.running()?,
    };
    let gone = call.daemon.engine.images().remove(&call.name, options).await?;
    let gone: Vec<_> = gone.into_iter().map(removed).collect();
    Ok(reply::json(StatusCode::OK, &gone))
}

/// `POST /images/prune`: those without a name, or with `dangling=false` all that no container has.
pub(crate) async fn prune(call: Call) -> Result<Response, Error> {
    let filters = call.query.filters(&["dangling", "label", "label!", "until"])?;
    let dangling = filters.boolean("dangling", true)?;
    let mut until = i64::MAX;
    for text in filters.get("until") {
        until = until.min(time::seconds(time::until(text)?));
    }
    let _alone = prune_alone(&call.daemon.prunes.images)?;
    let wanted = |image: &Image| {
        let labels = &image.config().config.labels;
        (!dangling || image.references().is_empty())
            && image.created().map_or(0, time::seconds_of) < until
            && filters.all_labels("label", labels)
            && filters.no_label("label!", labels)
    };
    let pruned = call.daemon.engine.images().prune(wanted).await?;
    let gone = pruned.removed.into_iter().map(removed).collect();
    Ok(reply::json(
        StatusCode::OK,
        &ImagePrune { images_deleted: nil_when_empty(gone), space_reclaimed: pruned.reclaimed },
    ))
}

/// `POST /images/load`
pub(crate) async fn load(call: Call) -> Result<Response, Error> {
    let quiet = call.query.boolean_or("quiet", true);
    let archive = StreamReader::new(BodyDataStream::new(call.body).map_err(std::io::Error::other));
    let task = call.daemon.engine.images().load(archive);
    progress::answer(task, move |news| progress::loading(news, quiet)).await
}

/// `POST /images/create`: pull, or import with `fromSrc`.
pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    if call.query.get("fromSrc").is_some() {
        return import(call).await;
    }
    let reference = named(call.query.text("fromImage"), call.query.text("tag"))?;
    let mut options = PullOptions::default();
    let platform = call.query.text("platform");
    if !platform.is_empty() {
        options.platform = Some(
            platform
                .parse()
                .map_err(|error| Error::invalid(format!("{platform:?} is an invalid platform: {error}")))?,
        );
    }
    options.auth = auth(call.headers.get("X-Registry-Auth"));
    let task = call.daemon.engine.images().pull(&reference, options);
    progress::answer(task, |news| Some(progress::pulling(news))).await
}

async fn import(call: Call) -> Result<Response, Error> {
    if call.query.text("fromSrc") != "-" {
        return Err(Error::unsupported(
            "this engine imports what is sent with the request (fromSrc=-) and fetches nothing itself",
        ));
    }
    if call.query.all("changes").any(|change| !change.is_empty()) {
        return Err(Error::unsupported("this engine does not support changes of an imported image yet"));
    }
    let mut options = ImportOptions::default();
    let repository = call.query.text("repo");
    if !repository.is_empty() {
        options.reference = Some(named(repository, call.query.text("tag"))?);
    }
    options.message = call.query.text("message").to_owned();
    let archive = StreamReader::new(BodyDataStream::new(call.body).map_err(std::io::Error::other));
    let task = call.daemon.engine.images().import(archive, options);
    progress::answer(task, |news| Some(progress::pulling(news))).await
}

/// A name and its tag, which may be a digest.
fn named(name: &str, tag: &str) -> Result<Reference, Error> {
    let text = match tag {
        "" => name.to_owned(),
        digest if digest.contains(':') => format!("{name}@{digest}"),
        tag => format!("{name}:{tag}"),
    };
    Ok(text.parse::<Reference>()?)
}

/// Credentials of the header; what cannot be read is no credentials, as Docker has it for pulls.
fn auth(header: Option<&http::HeaderValue>) -> Auth {
    let read = || {
        let text = header?.as_bytes();
        let bytes = URL_SAFE.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()?;
        json::from_slice::<RegistryAuth>(&bytes).ok()
    };
    let asked = read().unwrap_or_default();
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

    #[test]
    fn a_tag_may_be_a_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(named("busybox", "").unwrap().to_string(), "busybox:latest");
        assert_eq!(named("busybox", "1").unwrap().to_string(), "busybox:1");
        assert_eq!(named("busybox", &digest).unwrap().to_string(), format!("busybox@{digest}"));
        assert_eq!(named("Busybox", "").unwrap_err().status.as_u16(), 400);
    }
}
