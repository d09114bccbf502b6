//! A container engine for Linux, as a library.
//!
//! An [`Engine`] has a root directory, and in it images, containers, volumes and networks. It needs no daemon and no other
//! program: what runs containers is a small program that the library carries inside itself.
//!
//! ```no_run
//! use engine::{Bytes, ContainerSpec, Engine, Settings};
//!
//! # async fn hello() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::open(Settings::default()).await?;
//! let container = engine
//!     .containers()
//!     .create(ContainerSpec::new("busybox").command(["echo", "hi"]).memory(Bytes::mib(64)))
//!     .await?;
//! container.start().await?;
//! let exit = container.wait().await?;
//! assert!(exit.success());
//! # Ok(())
//! # }
//! ```
//!
//! * [`container`]: what is asked for ([`ContainerSpec`]), handles ([`Container`]), and a container's life.
//! * [`image`]: pulling, loading, listing and removing images.
//! * [`network`] and [`volume`]: what containers share.
//! * [`events`]: what happens, as a stream.
//! * [`settings`]: directories and defaults. The library reads no environment, installs no logger and handles no signals.
//!
//! Everything runs in the tokio runtime of the caller. Every folder has its own error type; `kind()` says what kind of thing
//! went wrong, as an [`ErrorKind`].

pub mod blob;
pub mod container;
pub mod engine;
pub mod error;
pub mod events;
pub mod id;
pub mod image;
pub mod logs;
pub mod network;
pub mod oci;
pub mod quota;
pub mod registry;
pub mod settings;
pub mod snapshot;
pub mod state;
mod tls;
pub mod volume;

pub use container::{
    AttachHandle, AttachOptions, Attached, Container, ContainerFilter, ContainerSpec, Containers, Exec, ExecSpec, Exit,
    IpcMode, Lifetime, MountSpec, NamespaceMode, NetworkMode, PruneOptions, RemoveOptions, StopOptions, WaitCondition,
};
pub use engine::Engine;
pub use engine_runtime::cgroup;
pub use error::ErrorKind;
pub use logs::LogOptions;
pub use settings::{Bytes, Settings};
