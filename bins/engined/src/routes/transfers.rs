//! Images that come and go: pulled, imported, loaded, pushed and saved.

use engine::image::{self, ImportOptions, LoadOptions, PullOptions, PushOptions, Saved};
use engine::oci::{Platform, Reference};
use engine_api::json;

use super::registries::auth;
use crate::convert::image::named;
use crate::error::Error;
use crate::reply::Response;
use crate::router::Call;
use crate::stream::hijack::{Client, Head, Outcome};
use crate::stream::progress;
use crate::stream::upload::Upload;

/// `POST /images/load`
pub(crate) async fn load(call: Call) -> Result<Response, Error> {
    let quiet = call.query.boolean_or("quiet", true);
    let options = LoadOptions { platform: platform(call.query.text("platform"))? };
    let archive = Upload::new(call.body);
    let task = call.daemon.engine.images().load_with(archive, options);
    progress::answer_in_stream(task, move |news| progress::loading(news, quiet)).await
}

/// `POST /images/create`: pull, or import with `fromSrc`.
pub(crate) async fn create(call: Call) -> Result<Response, Error> {
    if call.query.get("fromSrc").is_some() {
        return import(call).await;
    }
    let (name, tag) = (call.query.text("fromImage"), call.query.text("tag"));
    let reference = named(name, tag)?;
    let auth = auth(call.headers.get("X-Registry-Auth"));
    let options = PullOptions { platform: platform(call.query.text("platform"))?, auth };
    let images = call.daemon.engine.images();
    // A name alone stands for all its tags; clients add `latest` themselves when they mean that one.
    if tag.is_empty() && !has_tag(name) {
        return progress::answer(images.pull_all(&reference, options), |news| Some(progress::moving(news))).await;
    }
    progress::answer(images.pull(&reference, options), |news| Some(progress::moving(news))).await
}

async fn import(call: Call) -> Result<Response, Error> {
    let mut options = ImportOptions::default();
    let repository = call.query.text("repo");
    if !repository.is_empty() {
        options.reference = Some(named(repository, call.query.text("tag"))?);
    }
    let source = call.query.text("fromSrc");
    options.message = match call.query.text("message") {
        "" => format!("Imported from {source}"),
        message => message.to_owned(),
    };
    if let Some(platform) = platform(call.query.text("platform"))? {
        (options.config.os, options.config.architecture) = (platform.os, platform.architecture);
        options.config.variant = platform.variant;
    }
    for change in call.query.all("changes") {
        options = options.change(change)?;
    }
    let images = call.daemon.engine.images();
    let task = match source {
        "-" => images.import(Upload::new(call.body), options),
        address => images.import_from(address, options),
    };
    progress::answer(task, |news| Some(progress::moving(news))).await
}

/// `POST /images/{name}/push`
pub(crate) async fn push(call: Call) -> Result<Response, Error> {
    let tag = call.query.text("tag");
    let reference = named(&call.name, tag)?;
    let options = PushOptions {
        auth: auth(call.headers.get("X-Registry-Auth")),
        all_tags: tag.is_empty() && !has_tag(&call.name),
        platform: platform(call.query.text("platform"))?,
    };
    let task = call.daemon.engine.images().push(&reference, options);
    progress::answer(task, |news| Some(progress::moving(news))).await
}

/// `GET /images/{name}/get`
pub(crate) async fn save_one(call: Call) -> Result<Outcome, Error> {
    let names = vec![call.name.clone()];
    save_all(&call, names).await
}

/// `GET /images/get?names=...`
pub(crate) async fn save(call: Call) -> Result<Outcome, Error> {
    let names: Vec<String> = call.query.all("names").filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::invalid("no image was named: names=NAME"));
    }
    save_all(&call, names).await
}

/// The connection is taken, so that the kernel can hand files on to it; it is over with the archive.
async fn save_all(call: &Call, names: Vec<String>) -> Result<Outcome, Error> {
    let platform = platform(call.query.text("platform"))?;
    let saved = call.daemon.engine.images().save(&names, platform.as_ref()).await?;
    let head = format!(
        "HTTP/1.1 200 OK\r\nApi-Version: {}\r\nConnection: close\r\nContent-Length: {}\r\nContent-Type: application/x-tar\r\n\
         Ostype: linux\r\nServer: {}\r\n\r\n",
        crate::API_VERSION,
        saved.length(),
        crate::SERVER
    );
    Ok(Outcome::Taken(Box::new(move |client| Box::pin(send(saved, client, Head::plain(head))))))
}

/// How much of an archive may be on its way, in bytes. It is in memory anyway: the kernel passes on where it lies.
const WAY: usize = 4 << 20;

/// Sends an archive on a thread of its own: a client may take its time. One that is cut short is not as long as was said.
async fn send(saved: Saved, client: Client, head: Head) {
    let Ok((socket, _)) = client.answer(&head).await else { return };
    // Who writes what comes to a disk, and who makes it, stop less often for each other. The usual size is no error.
    let _ = engine_sys::socket::enlarge_send_buffer(&socket, WAY);
    let (sender, ended) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("engined-save".to_owned()).spawn(move || {
        let _ = sender.send(saved.write_to(socket));
    });
    let sent = match thread {
        Ok(_) => ended.await.unwrap_or(Err(image::Error::Cancelled)),
        Err(error) => Err(image::Error::Write(error)),
    };
    match sent {
        Ok(()) | Err(image::Error::Cancelled) => {}
        Err(error) => tracing::warn!(%error, "an archive of images was cut short"),
    }
}

/// A platform, as `linux/amd64` or as JSON; clients use both.
pub(crate) fn platform(text: &str) -> Result<Option<Platform>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.starts_with('{') {
        let platform: Platform = json::from_slice(text.as_bytes())
            .map_err(|error| Error::invalid(format!("{text:?} is an invalid platform: {error}")))?;
        return Ok(Some(platform));
    }
    text.parse().map(Some).map_err(|error| Error::invalid(format!("{text:?} is an invalid platform: {error}")))
}

/// Whether a name says more than the repository.
fn has_tag(name: &str) -> bool {
    name.parse::<Reference>().is_ok_and(|reference| reference.digest().is_some())
        || name.rsplit('/').next().and_then(|last| last.split_once(':')).is_some_and(|(_, tag)| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn platforms_are_written_in_two_ways() {
        assert_eq!(platform("").unwrap(), None);
        let short = platform("linux/arm64/v8").unwrap().unwrap();
        assert_eq!(platform(r#"{"os":"linux","architecture":"arm64","variant":"v8"}"#).unwrap(), Some(short));
        assert!(platform("{").is_err() && platform("a b").is_err());
    }

    #[test]
    fn a_port_is_no_tag() {
        assert!(!has_tag("localhost:5000/x") && !has_tag("x") && !has_tag("x:"));
        assert!(has_tag("localhost:5000/x:1") && has_tag("x:1"));
        assert!(has_tag(&format!("x@sha256:{}", "0".repeat(64))));
    }
}
