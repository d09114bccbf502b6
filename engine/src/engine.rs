//! The engine: everything assembled.
