//! The root of the freestanding program; `build.rs` compiles it, the library never sees it.
#![no_std]
#![no_main]

mod entry;
mod plan;
mod protocol;
mod system;

fn main() -> ! {
    system::exit(0)
}
