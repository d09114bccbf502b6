//! What this daemon does not do, said plainly.

use engine::error::ErrorKind;
use engine_api::image::BuildPrune;
use http::StatusCode;

use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;

/// Part of the API, but nobody has built it yet.
pub(crate) async fn not_built(_: Call) -> Result<Response, Error> {
    Err(Error::unsupported("this engine does not support this request yet"))
}

/// Clusters.
pub(crate) async fn no_swarm(_: Call) -> Result<Response, Error> {
    Err(Error::new(
        ErrorKind::Unavailable,
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.",
    ))
}

/// Nothing is built here, so nothing is kept of it.
pub(crate) async fn no_build_cache(_: Call) -> Result<Response, Error> {
    Ok(reply::json(StatusCode::OK, &BuildPrune::default()))
}

/// There are no plugins.
pub(crate) async fn no_plugins(_: Call) -> Result<Response, Error> {
    Ok(reply::json(StatusCode::OK, &[(); 0]))
}

/// Nor can there be any.
pub(crate) async fn plugins_are_not_run(_: Call) -> Result<Response, Error> {
    Err(Error::unsupported(
        "this engine runs no plugins: drivers of volumes and networks are parts of the program that links it",
    ))
}

/// There is not this one either.
pub(crate) async fn no_such_plugin(call: Call) -> Result<Response, Error> {
    Err(Error::not_found(format!("plugin \"{}\" not found", call.name)))
}
