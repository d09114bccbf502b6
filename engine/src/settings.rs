//! Every path, limit and default, passed in.
