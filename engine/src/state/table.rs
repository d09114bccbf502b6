//! The kinds of record.

use std::fmt;

/// A kind of record; keys are unique within one.
///
/// The numbers are on disk: never change or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Table {
    /// Facts about the root itself.
    Root = 1,
    /// Images by id.
    Image = 2,
    /// Image names.
    Tag = 3,
    /// Unpacked layers by diff id.
    Layer = 4,
    /// Containers by id.
    Container = 5,
    /// Container names.
    ContainerName = 6,
    /// Networks by id.
    Network = 7,
    /// Network names.
    NetworkName = 8,
    /// Containers' ends on networks.
    Endpoint = 9,
    /// Leased addresses.
    Address = 10,
    /// Volumes by name.
    Volume = 11,
    /// Processes started in containers.
    Exec = 12,
    /// Running engines.
    Owner = 13,
    /// Blobs by digest.
    Blob = 14,
    /// Published ports.
    Port = 15,
    /// When images were used last, by their ids.
    Use = 16,
}

impl Table {
    const ALL: [Self; 16] = [
        Self::Root,
        Self::Image,
        Self::Tag,
        Self::Layer,
        Self::Container,
        Self::ContainerName,
        Self::Network,
        Self::NetworkName,
        Self::Endpoint,
        Self::Address,
        Self::Volume,
        Self::Exec,
        Self::Owner,
        Self::Blob,
        Self::Port,
        Self::Use,
    ];

    pub(super) fn number(self) -> u8 {
        self as u8
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.number() == number)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Image => "image",
            Self::Tag => "tag",
            Self::Layer => "layer",
            Self::Container => "container",
            Self::ContainerName => "container name",
            Self::Network => "network",
            Self::NetworkName => "network name",
            Self::Endpoint => "endpoint",
            Self::Address => "address",
            Self::Volume => "volume",
            Self::Exec => "exec",
            Self::Owner => "owner",
            Self::Blob => "blob",
            Self::Port => "port",
            Self::Use => "last use",
        })
    }
}
