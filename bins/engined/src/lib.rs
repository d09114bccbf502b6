//! The engine behind a socket: the Docker Engine API, translated to the library and back.
//!
//! [`serve`] runs the daemon inside any program; [`run`] is the program `engined`.

mod args;
mod convert;
mod directives;
mod error;
mod extract;
pub mod listen;
pub mod pidfile;
mod reply;
mod router;
mod routes;
mod run;
mod server;
mod stream;
mod version;

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Engine;
use engine::container::ContainerFilter;
use engine::id::ContainerId;
use tokio::net::UnixListener;

pub use args::Args;
pub use directives::Invalid;
pub use run::{Error, run};

/// The newest version of the API, as every answer says it.
const API_VERSION: &str = "1.51";
/// The daemon, as every answer says it. Clients look for this name.
const SERVER: &str = concat!("Docker/", env!("CARGO_PKG_VERSION"), " (linux)");

/// What the daemon tells about itself beyond what the engine knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// It logs more.
    pub debug: bool,
}

/// What all handlers share.
#[derive(Debug)]
struct Daemon {
    engine: Engine,
    options: Options,
    /// Two prunes of one kind never run at once.
    prunes: routes::Prunes,
    lines: routes::containers::list::Lines,
}

impl Daemon {
    /// The containers that run.
    fn running(&self) -> Result<BTreeSet<ContainerId>, error::Error> {
        Ok(self.engine.containers().list(&ContainerFilter::new())?.iter().map(|record| record.id).collect())
    }
}

/// Serves the Docker Engine API for `engine` until `shutdown` completes. Containers that are independent go on.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = engine::Settings::at("/srv/engine");
/// let engine = engine::Engine::open(settings.clone()).await?;
/// let listener = tokio::net::UnixListener::bind("/srv/engine.sock")?;
/// engined::serve(engine, vec![listener], async { /* until then */ }).await;
/// # Ok(())
/// # }
/// ```
pub async fn serve(engine: Engine, listeners: Vec<UnixListener>, shutdown: impl Future<Output = ()>) {
    serve_with(engine, listeners, Options::default(), shutdown).await;
}

/// As [`serve`], with what `/info` tells about the daemon.
pub async fn serve_with(
    engine: Engine,
    listeners: Vec<UnixListener>,
    options: Options,
    shutdown: impl Future<Output = ()>,
) {
    let (prunes, lines) = (routes::Prunes::default(), routes::containers::list::Lines::default());
    let daemon = Arc::new(Daemon { engine: engine.clone(), options, prunes, lines });
    server::run(daemon, listeners, shutdown).await;
    engine.shutdown().await;
}
