//! What kind of thing went wrong: the one classification that every folder's own `Error` answers with `kind()`.

use std::fmt;

/// The kind of an error, from which a caller decides what to do next (and the daemon its HTTP status).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing asked for does not exist.
    NotFound,
    /// What was asked makes no sense, whoever asks and whenever.
    Invalid,
    /// It clashes with the state of something else: a name taken, a thing in use, the wrong moment.
    Conflict,
    /// The caller may not do this here.
    Denied,
    /// A registry (or another peer) wants other credentials.
    Unauthorized,
    /// A peer or a resource is not there right now; trying again can help.
    Unavailable,
    /// Nothing had to be done: it is like that already.
    NotModified,
    /// The kernel, the peer or this version cannot do it.
    Unsupported,
    /// Everything else: the host failed us, or we have a bug.
    Internal,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not found",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
            Self::NotModified => "not modified",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        })
    }
}
