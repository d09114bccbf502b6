//! The daemon's life: configuration, sockets, engine, signals, end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use engine::Engine;
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::directives::{Directives, Invalid, Setup};
use crate::pidfile::Pidfile;
use crate::{Args, Options, listen, pidfile, serve_with};

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Configuration(#[from] Invalid),
    /// The sockets.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// The pid file.
    #[error(transparent)]
    Pidfile(#[from] pidfile::Error),
    /// The engine.
    #[error("failed to start the engine: {0}")]
    Engine(#[from] engine::engine::Error),
    /// The runtime, signals or the log.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT. Containers go on without it.
///
/// # Errors
/// When the configuration makes no sense, a socket cannot be listened on, or the engine cannot be opened.
pub fn run(args: Args) -> Result<(), Error> {
    let mut setup = configure(args.clone())?;
    let level = start_log(setup.log_level);
    setup.settings.open_files = raise_open_files();
    let _pidfile = setup.pidfile.as_deref().map(Pidfile::write).transpose()?;
    let (mut sockets, mut places) = (Vec::new(), Vec::new());
    for listener in listen::listen(&setup.addresses, setup.group.as_deref())? {
        let (socket, place) = listener.into_parts().map_err(|error| Error::Io("prepare a socket", error))?;
        sockets.push(socket);
        places.extend(place);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Threads that wait for the kernel are taken in turn, so that all that one busy moment needed would stay for as long as
        // anything goes on at all.
        .thread_keep_alive(Duration::from_millis(250))
        .enable_all()
        .build()
        .map_err(|error| Error::Io("start the runtime", error))?;
    let result = runtime.block_on(live(args, setup, sockets, level));
    // What blocks must not keep the daemon from its end.
    runtime.shutdown_background();
    result
}

/// Each published port is held by a socket, and connections and containers take some more: as many as the system allows. Says
/// how many there were before, which is what containers begin with.
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the number of open files cannot be raised");
    }
    limit.current
}

async fn live(
    args: Args,
    setup: Setup,
    sockets: Vec<std::os::unix::net::UnixListener>,
    level: reload::Handle<LevelFilter, Registry>,
) -> Result<(), Error> {
    let caught = |kind| signal(kind).map_err(|error| Error::Io("catch a signal", error));
    let (mut terminate, mut interrupt) = (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?);
    let hangup = caught(SignalKind::hangup())?;
    let sockets: io::Result<Vec<_>> = sockets.into_iter().map(UnixListener::from_std).collect();
    let sockets = sockets.map_err(|error| Error::Io("listen on a socket", error))?;
    let root: PathBuf = setup.settings.root.clone();
    let engine = Engine::open(setup.settings).await?;
    tracing::info!(root = %root.display(), version = env!("CARGO_PKG_VERSION"), "the engine is open");
    let reloading = tokio::spawn(reload(args, hangup, level));
    notify(&[sd_notify::NotifyState::Ready]);
    tokio::spawn(warm(engine.clone()));
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("shutting down, containers go on");
    };
    serve_with(engine, sockets, Options { debug: setup.debug }, shutdown).await;
    reloading.abort();
    Ok(())
}

/// The first container shall not wait for what can be done now.
async fn warm(engine: Engine) {
    if let Err(error) = engine.warm().await {
        tracing::warn!(%error, "what starts containers could not be started yet");
    }
    let images = engine.images().clone();
    match tokio::task::spawn_blocking(move || images.collect_garbage()).await {
        Ok(Err(error)) => tracing::warn!(%error, "what killed programs left of images could not be removed"),
        Err(error) => tracing::warn!(%error, "what killed programs left of images could not be removed"),
        Ok(Ok(())) => {}
    }
}

fn configure(args: Args) -> Result<Setup, Invalid> {
    let (path, must_exist) = args.config_file();
    let file = Directives::read(&path, must_exist)?;
    let directives = Directives::unite(args.directives()?, file, &path)?;
    directives.with_proxies_of(|name| std::env::var(name).ok()).decide()
}

/// SIGHUP: the log level is read again. Everything else needs a start, which containers do not notice.
async fn reload(args: Args, mut hangup: Signal, level: reload::Handle<LevelFilter, Registry>) {
    while hangup.recv().await.is_some() {
        match configure(args.clone()) {
            Ok(setup) => {
                tracing::info!(level = %setup.log_level, "configuration read again: the log level is set, all else waits for the next start");
                if let Err(error) = level.reload(setup.log_level) {
                    tracing::error!(%error, "the log level could not be set");
                }
            }
            Err(error) => tracing::error!(%error, "the configuration was not read again"),
        }
    }
}

fn start_log(level: LevelFilter) -> reload::Handle<LevelFilter, Registry> {
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false);
    // A second daemon in one program keeps the first one's log.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    handle
}

/// Tells the service manager, where there is one.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
