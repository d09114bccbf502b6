//! What networking can fail with.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use engine_sys::netlink;

use super::Protocol;
use crate::error::ErrorKind;
use crate::id::EndpointId;
use crate::state;

/// An error of the networks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such network.
    #[error("network {name} not found")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// Several networks begin like that.
    #[error("network {name} is ambiguous ({count} matches found based on ID prefix)")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// How many begin like that.
        count: usize,
    },
    /// Another network has the name.
    #[error("network with name {name} already exists")]
    Exists {
        /// The name.
        name: String,
    },
    /// It cannot be made, changed or removed because of what it is.
    #[error("{0}")]
    Forbidden(String),
    /// Containers are on it.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    InUse {
        /// The network's name.
        network: String,
        /// Who is on it.
        endpoints: String,
    },
    /// What was asked makes no sense.
    #[error("{0}")]
    Refused(String),
    /// There is no such driver.
    #[error("plugin \"{name}\" not found: there is no network driver of this name")]
    NoDriver {
        /// What was asked for.
        name: String,
    },
    /// A driver that the program brought cannot do it.
    #[error("network driver {driver}: {source}")]
    Driver {
        /// The driver.
        driver: String,
        /// Its answer.
        source: super::driver::DriverError,
    },
    /// The kernel or this version cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// Another network or a route of the host has addresses of the block.
    #[error("invalid pool request: Pool overlaps with other one on this address space: {subnet} and {other}")]
    Overlap {
        /// What was asked for.
        subnet: String,
        /// What is there.
        other: String,
    },
    /// The container is on that network already.
    #[error("endpoint with name {container} already exists in network {network}")]
    Connected {
        /// The container's short id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// The container is not on that network.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's short id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// An interface needs a namespace to be in.
    #[error("connect to network {network}: the container has no network namespace of its own")]
    NoNamespace {
        /// The network's name.
        network: String,
    },
    /// An option does not go with this kind of network.
    #[error("network {network}: {reason}")]
    Invalid {
        /// The network's name.
        network: String,
        /// What is wrong.
        reason: String,
    },
    /// The address is somebody's.
    #[error("Address already in use: {address} of network {network}")]
    AddressInUse {
        /// The network's name.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// Every address is somebody's.
    #[error("network {network} has no free address in {subnet}")]
    AddressesExhausted {
        /// The network's name.
        network: String,
        /// Where addresses are taken from.
        subnet: String,
    },
    /// Another container has the port.
    #[error("Bind for {} failed: port is already allocated", SocketAddr::new(*address, *port))]
    PortAllocated {
        /// The host's address.
        address: IpAddr,
        /// The host's port.
        port: u16,
    },
    /// A program of the host has the port.
    #[error("failed to bind host port {}/{protocol}: address already in use", SocketAddr::new(*address, *port))]
    PortInUse {
        /// What is carried.
        protocol: Protocol,
        /// The host's address.
        address: IpAddr,
        /// The host's port.
        port: u16,
    },
    /// A container's ports cannot be published. The words are Docker's, which its users look for.
    #[error(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {endpoint} ({id}): {source}"
    )]
    Publish {
        /// What the container is called.
        endpoint: String,
        /// The id of its end.
        id: EndpointId,
        /// Why.
        source: Box<Self>,
    },
    /// No port of the host is free.
    #[error("no port of the host is free to be published")]
    PortsExhausted,
    /// Ports of this protocol cannot be published.
    #[error("ports of protocol {name:?} cannot be published: tcp, udp and sctp can")]
    Protocol {
        /// What was asked for.
        name: String,
    },
    /// Every block of the pools overlaps an address or a route of the host.
    #[error(
        "no block of addresses is free for network {network}: all overlap addresses or routes of this host; set one"
    )]
    SubnetsExhausted {
        /// The network's name.
        network: String,
    },
    /// The name of the bridge is taken by something else.
    #[error("interface {interface} is there and is no bridge: remove it or set another name for the bridge")]
    NoBridge {
        /// The interface.
        interface: String,
    },
    /// The kernel refused a change of links, addresses, routes or rules.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried on what.
        what: String,
        /// Its answer.
        source: netlink::Error,
    },
    /// A file of the system could not be read or written, or a namespace not be made.
    #[error("{what}: {source}")]
    System {
        /// What was tried on what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A switch of the kernel could not be turned.
    #[error("write {value} to {}: {source}", path.display())]
    Switch {
        /// The file.
        path: PathBuf,
        /// What was to be written.
        value: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The state store failed.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The work was given up because the runtime is shutting down.
    #[error("networking was interrupted: the runtime is shutting down")]
    Interrupted,
}

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoDriver { .. } => ErrorKind::NotFound,
            Self::Refused(_) | Self::Ambiguous { .. } | Self::Invalid { .. } | Self::NoNamespace { .. } => {
                ErrorKind::Invalid
            }
            Self::Exists { .. } => ErrorKind::Conflict,
            // Docker says 403 where it means that it is not possible.
            Self::Connected { .. }
            | Self::NotConnected { .. }
            | Self::AddressInUse { .. }
            | Self::Forbidden(_)
            | Self::InUse { .. }
            | Self::Overlap { .. } => ErrorKind::Denied,
            Self::AddressesExhausted { .. }
            | Self::SubnetsExhausted { .. }
            | Self::PortsExhausted
            | Self::Interrupted => ErrorKind::Unavailable,
            Self::Kernel { source, .. } => system(&source.source),
            Self::System { source, .. } | Self::Switch { source, .. } => system(source),
            Self::NoBridge { .. } => ErrorKind::Conflict,
            // Docker answers these with its code for internal errors.
            Self::Publish { source, .. } => source.kind(),
            Self::PortAllocated { .. } | Self::PortInUse { .. } | Self::Driver { .. } => ErrorKind::Internal,
            Self::Protocol { .. } | Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::State(error) => error.kind(),
        }
    }

    pub(super) fn kernel(what: impl Into<String>) -> impl FnOnce(netlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Kernel { what, source }
    }

    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

fn system(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Internal,
    }
}
