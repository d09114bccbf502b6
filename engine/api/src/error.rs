//! The body of every error.

use serde::{Deserialize, Serialize};

/// `{"message": "..."}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// What went wrong, for people.
    pub message: String,
}
