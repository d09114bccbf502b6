//! Errors as clients see them: the one place where an [`ErrorKind`] becomes an HTTP status.

use engine::error::ErrorKind;
use engine_api::error::ErrorBody;
use engine_api::filter::InvalidFilter;
use http::StatusCode;

use crate::reply::{self, Response};

/// What a request ends with when it fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Error {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// For people; some texts are matched by clients.
    pub(crate) message: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { status: status(kind), message: message.into() }
    }

    /// 400
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// 404
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// 409
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// 501
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// 500
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The answer. Not modified has no body, old clients get plain text.
    pub(crate) fn into_response(self, json: bool) -> Response {
        if self.status == StatusCode::NOT_MODIFIED {
            return reply::empty(self.status);
        }
        if json {
            reply::json(self.status, &ErrorBody { message: self.message })
        } else {
            reply::text(self.status, format!("{}\n", self.message))
        }
    }
}

/// Docker's status for a kind of error.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Each folder of the engine has its own error, and all have a kind.
macro_rules! from_engine {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error.to_string())
            }
        })*
    };
}

from_engine!(
    engine::container::Error,
    engine::image::Error,
    engine::network::Error,
    engine::oci::Error,
    engine::registry::Error,
    engine::volume::Error,
);

impl From<InvalidFilter> for Error {
    fn from(error: InvalidFilter) -> Self {
        Self::invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_dockers_status() {
        for (kind, expected) in [
            (ErrorKind::NotFound, 404),
            (ErrorKind::Invalid, 400),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Denied, 403),
            (ErrorKind::Unauthorized, 401),
            (ErrorKind::Unavailable, 503),
            (ErrorKind::NotModified, 304),
            (ErrorKind::Unsupported, 501),
            (ErrorKind::Internal, 500),
        ] {
            assert_eq!(status(kind).as_u16(), expected);
        }
    }

    #[test]
    fn a_body_is_json_with_a_line_end_or_text() {
        let json = Error::not_found("No such container: <x>").into_response(true);
        assert_eq!(json.headers()["content-type"], "application/json");
        assert_eq!(json.body().bytes(), Some(&b"{\"message\":\"No such container: <x>\"}\n"[..]));
        let text = Error::invalid("old").into_response(false);
        assert_eq!(text.headers()["content-type"], "text/plain; charset=utf-8");
        assert_eq!(text.body().bytes(), Some(&b"old\n"[..]));
    }

    #[test]
    fn not_modified_has_no_body() {
        let response = Error::new(ErrorKind::NotModified, "is running").into_response(true);
        assert_eq!((response.status().as_u16(), response.body().bytes()), (304, Some(&b""[..])));
    }
}
