//! What kind of thing went wrong.
