//! Namespaces made on a thread of their own.
