//! A container engine for Linux, as a library.

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
pub mod registry;
pub mod settings;
pub mod snapshot;
pub mod state;
pub mod volume;

pub use container::{
    AttachOptions, Attached, ContainerFilter, ContainerSpec, ExecSpec, Exit, IpcMode, Lifetime, MountSpec,
    NamespaceMode, NetworkMode, WaitCondition,
};
pub use logs::LogOptions;
pub use settings::{Bytes, Settings};
