//! What a container shares with the host or with another container: the modes of its namespaces, its restart
//! policy and its lifetime, each read from and shown as Docker's own word.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! as_words {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                word.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_words!(NetworkMode, NamespaceMode, IpcMode, RestartPolicy, Lifetime);

/// A word that is none of those a setting knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidMode(pub(super) String);

/// Which network a container is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkMode {
    /// The engine's default: `bridge` where there is one.
    #[default]
    Default,
    /// A namespace with nothing but the loopback interface.
    None,
    /// The host's own network.
    Host,
    /// The network namespace of another container, by id or name.
    Container(String),
    /// A network by name or id; `bridge` is one.
    Named(String),
}

impl NetworkMode {
    /// Whether the container has a network namespace and an endpoint of its own.
    #[must_use]
    pub fn has_endpoint(&self) -> bool {
        matches!(self, Self::Default | Self::Named(_))
    }
}

impl FromStr for NetworkMode {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(match word {
            "" | "default" => Self::Default,
            "none" => Self::None,
            "host" => Self::Host,
            _ => match word.strip_prefix("container:") {
                Some(container) => Self::Container(container.to_owned()),
                None => Self::Named(word.to_owned()),
            },
        })
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(container) => write!(f, "container:{container}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Whose namespace of a kind a container is in: process ids, host name, users or cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamespaceMode {
    /// What the engine does when nothing is asked for: one of its own (for users: the host's).
    #[default]
    Default,
    /// One of its own.
    Private,
    /// The host's.
    Host,
    /// That of another container, by id or name.
    Container(String),
}

impl FromStr for NamespaceMode {
    type Err = InvalidMode;

    fn from_str(word: &str) -> Result<Self, InvalidMode> {
        match word {
            "" => Ok(Self::Default),
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            _ => match word.strip_prefix("container:") {
                Some(container) if !container.is_empty() => Ok(Self::Container(container.to_owned())),
                _ => Err(InvalidMode(format!("invalid namespace mode: {word}"))),
            },
        }
    }
}

impl fmt::Display for NamespaceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::Private => f.write_str("private"),
            Self::Host => f.write_str("host"),
            Self::Container(container) => write!(f, "container:{container}"),
        }
    }
}

/// Whose shared memory and message queues a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpcMode {
    /// What the engine does when nothing is asked for: [`IpcMode::Private`].
    #[default]
    Default,
    /// A namespace of its own without a `/dev/shm`.
    None,
    /// A namespace of its own that nobody else joins.
    Private,
    /// A namespace of its own that other containers may join.
    Shareable,
    /// The host's.
    Host,
    /// That of another container, by id or name.
    Container(String),
}

impl FromStr for IpcMode {
    type Err = InvalidMode;

    fn from_str(word: &str) -> Result<Self, InvalidMode> {
        match word {
            "" => Ok(Self::Default),
            "none" => Ok(Self::None),
            "private" => Ok(Self::Private),
            "shareable" => Ok(Self::Shareable),
            "host" => Ok(Self::Host),
            _ => match word.strip_prefix("container:") {
                Some(container) if !container.is_empty() => Ok(Self::Container(container.to_owned())),
                _ => Err(InvalidMode(format!("invalid IPC mode: {word}"))),
            },
        }
    }
}

impl fmt::Display for IpcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::None => f.write_str("none"),
            Self::Private => f.write_str("private"),
            Self::Shareable => f.write_str("shareable"),
            Self::Host => f.write_str("host"),
            Self::Container(container) => write!(f, "container:{container}"),
        }
    }
}

/// What happens when a container's process has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again, whatever its exit code.
    Always,
    /// The same, but not once it was stopped on purpose.
    UnlessStopped,
    /// It is started again after an exit code other than 0, at most so many times (0: without bound).
    OnFailure(u32),
}

impl FromStr for RestartPolicy {
    type Err = InvalidMode;

    fn from_str(word: &str) -> Result<Self, InvalidMode> {
        let unknown = || {
            InvalidMode(format!(
                "invalid restart policy: unknown policy '{word}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ))
        };
        match word {
            "" | "no" => Ok(Self::No),
            "always" => Ok(Self::Always),
            "unless-stopped" => Ok(Self::UnlessStopped),
            "on-failure" => Ok(Self::OnFailure(0)),
            _ => {
                let count = word.strip_prefix("on-failure:").ok_or_else(unknown)?;
                count.parse().map(Self::OnFailure).map_err(|_| unknown())
            }
        }
    }
}

impl RestartPolicy {
    /// The word of the policy without its count.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure(_) => "on-failure",
        }
    }

    /// The count that the policy has, or 0.
    #[must_use]
    pub fn maximum_retry_count(&self) -> u32 {
        if let Self::OnFailure(count) = self { *count } else { 0 }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure(count) if *count > 0 => write!(f, "on-failure:{count}"),
            _ => f.write_str(self.name()),
        }
    }
}

/// How long a running container lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the engine that started it: it is killed when the program ends, however it ends.
    #[default]
    Engine,
    /// As long as its own process; another engine on the same root takes it over.
    Independent,
}

impl FromStr for Lifetime {
    type Err = InvalidMode;

    fn from_str(word: &str) -> Result<Self, InvalidMode> {
        match word {
            "engine" => Ok(Self::Engine),
            "independent" => Ok(Self::Independent),
            _ => Err(InvalidMode(format!("invalid lifetime: {word}"))),
        }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Engine => "engine",
            Self::Independent => "independent",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_read_and_shown_alike() {
        for word in ["default", "none", "host", "container:x", "bridge"] {
            assert_eq!(word.parse::<NetworkMode>().unwrap().to_string(), word);
        }
        for word in ["", "private", "host", "container:x"] {
            assert_eq!(word.parse::<NamespaceMode>().unwrap().to_string(), word);
        }
        for word in ["", "none", "private", "shareable", "host", "container:x"] {
            assert_eq!(word.parse::<IpcMode>().unwrap().to_string(), word);
        }
        for word in ["no", "always", "unless-stopped", "on-failure", "on-failure:3"] {
            assert_eq!(word.parse::<RestartPolicy>().unwrap().to_string(), word);
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        assert!("container:".parse::<NamespaceMode>().is_err());
        assert!("bogus".parse::<NamespaceMode>().is_err());
        assert!("bogus".parse::<IpcMode>().is_err());
        assert!("on-failure:x".parse::<RestartPolicy>().is_err());
        assert!("often".parse::<RestartPolicy>().is_err());
        assert!("forever".parse::<Lifetime>().is_err());
    }
}
