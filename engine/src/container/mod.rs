//! Containers: what is asked for, what is decided, and their life from create to remove.

mod host_config;
mod modes;
mod mounts;
mod spec;

pub use host_config::{DeviceMapping, Healthcheck, HostConfig, LogConfig, PortBinding, Resources};
pub use modes::{InvalidMode, IpcMode, Lifetime, NamespaceMode, NetworkMode, RestartPolicy};
pub use mounts::{MountKind, MountPoint, MountSource, MountSpec, Propagation};
pub use spec::{ContainerSpec, EndpointSpec};
