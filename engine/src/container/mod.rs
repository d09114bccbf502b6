//! Containers: what is asked for, what is decided, and their life from create to remove.

mod attach;
mod bundle;
mod config;
mod devices;
mod error;
mod exec_spec;
mod filter;
mod host_config;
mod modes;
mod mount_plan;
mod mounts;
mod names;
mod record;
mod security;
mod spec;
mod status;
mod validate;
mod wait;

pub use attach::{AttachOptions, Attached, DetachKeys};
pub use config::Config;
pub use error::Error;
pub use exec_spec::{ExecRecord, ExecSpec, ExecState};
pub use filter::ContainerFilter;
pub use host_config::{DeviceMapping, HostConfig, LogConfig, PortBinding, Resources};
pub use modes::{InvalidMode, IpcMode, Lifetime, NamespaceMode, NetworkMode, RestartPolicy};
pub use mounts::{MountKind, MountPoint, MountSource, MountSpec, Propagation};
pub use record::Record;
pub use spec::{ContainerSpec, EndpointSpec};
pub use status::{ContainerState, Status};
pub use wait::{Exit, WaitCondition, Waiter};
