//! Sockets that carry descriptors and credentials.
