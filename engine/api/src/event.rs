//! What `/events` tells, one object a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::is_zero;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// The action again, for events of containers and images only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// The actor's id again, for events of containers and images only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The image of the container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// container, image, network, volume or daemon.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened, such as `start`.
    #[serde(rename = "Action")]
    pub action: String,
    /// To what it happened.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "is_zero")]
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano", skip_serializing_if = "is_zero")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Its id, or its name where it has none.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels and facts such as `exitCode`.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}
