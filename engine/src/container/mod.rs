//! Containers: what is asked for, what is decided, and their life from create to remove.

mod config;
mod error;
mod host_config;
mod modes;
mod mounts;
mod names;
mod record;
mod spec;
mod status;

pub use config::Config;
pub use error::Error;
pub use host_config::{DeviceMapping, HostConfig, LogConfig, PortBinding, Resources};
pub use modes::{InvalidMode, IpcMode, Lifetime, NamespaceMode, NetworkMode, RestartPolicy};
pub use mounts::{MountKind, MountPoint, MountSource, MountSpec, Propagation};
pub use record::Record;
pub use spec::{ContainerSpec, EndpointSpec};
pub use status::{ContainerState, Status};
