//! Image formats as data.
