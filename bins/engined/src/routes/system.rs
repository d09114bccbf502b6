//! `/_ping`, `/version` and `/info`.

use engine::container::ContainerFilter;
use http::{HeaderValue, StatusCode, header};

use crate::convert::system::{self, About, Counts, Host};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;

/// `GET` and `HEAD /_ping`: how clients find out what is spoken here.
pub(crate) async fn ping(_: Call) -> Result<Response, Error> {
    let mut response = reply::text(StatusCode::OK, "OK");
    let headers = response.headers_mut();
    for (name, value) in [("Builder-Version", "1"), ("Swarm", "inactive"), ("Pragma", "no-cache")] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    Ok(response)
}

/// `GET /version`
pub(crate) async fn version(_: Call) -> Result<Response, Error> {
    Ok(reply::json(StatusCode::OK, &system::version()))
}

/// `GET /info`
pub(crate) async fn info(call: Call) -> Result<Response, Error> {
    let daemon = &call.daemon;
    let records = daemon.engine.containers().list(&ContainerFilter::new().all(true))?;
    let counts = Counts::of(records.iter().map(AsRef::as_ref), daemon.engine.images().list().await?.len());
    let about = About {
        id: daemon.engine.id(),
        settings: daemon.engine.settings(),
        debug: daemon.options.debug,
        host: &Host::look(),
        counts,
    };
    Ok(reply::json(StatusCode::OK, &system::info(&about, call.version)))
}
