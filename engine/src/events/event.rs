//! One event, as it is told.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What kind of thing an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EventType {
    /// The building of images.
    Builder,
    /// A container.
    Container,
    /// The engine itself.
    Daemon,
    /// An image or its names.
    Image,
    /// A network and who is connected to it.
    Network,
    /// A volume.
    Volume,
}

impl EventType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builder => "builder",
            Self::Container => "container",
            Self::Daemon => "daemon",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing it is about.
    pub kind: EventType,
    /// What happened, such as `create`, `die` or `pull`.
    pub action: String,
    /// Which one: an id, or a name where names identify.
    pub id: String,
    /// What else there is to tell.
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since 1970 UTC.
    pub at_nanos: i64,
}

impl Event {
    /// An event of this moment.
    pub fn new(kind: EventType, action: impl Into<String>, id: impl Into<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            kind,
            action: action.into(),
            id: id.into(),
            attributes: BTreeMap::new(),
            at_nanos: i64::try_from(now.as_nanos()).unwrap_or(i64::MAX),
        }
    }

    /// Adds one thing to tell.
    #[must_use]
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(key.into(), value.into());
        self
    }

    /// Adds many.
    #[must_use]
    pub fn attributes<K: Into<String>, V: Into<String>>(mut self, all: impl IntoIterator<Item = (K, V)>) -> Self {
        self.attributes.extend(all.into_iter().map(|(key, value)| (key.into(), value.into())));
        self
    }
}
