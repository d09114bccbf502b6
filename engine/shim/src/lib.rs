//! The engine's embedded program (spawner, monitor and init), and the formats it speaks.
//!
//! The program is freestanding: no standard library, no heap, no libc. This library holds the parts
//! that both sides share, so that they can be tested as ordinary code.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod plan;
