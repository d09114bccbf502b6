//! Requests and answers that are streams, and connections that stop being HTTP.

pub(crate) mod coding;
pub(crate) mod hijack;
pub(crate) mod logs;
pub(crate) mod progress;
pub(crate) mod upload;
pub(crate) mod websocket;
