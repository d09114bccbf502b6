//! The layers of ARCHITECTURE.md, held.
