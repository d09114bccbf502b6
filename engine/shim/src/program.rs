//! The root of the freestanding program; `build.rs` compiles it, the library never sees it.
#![no_std]
#![no_main]

mod accounts;
mod beneath;
mod entry;
mod executor;
mod monitor;
mod plan;
mod protocol;
mod report;
mod spawner;
mod system;

fn main() -> ! {
    spawner::run()
}
