//! The root of the freestanding program; `build.rs` compiles it, the library never sees it.
#![no_std]
#![no_main]

mod accounts;
mod beneath;
mod direct;
mod entry;
mod executor;
mod monitor;
mod plan;
mod protocol;
mod report;
mod spawner;
mod system;

/// With the number of a connection as its first argument it launches one process for whoever is at the other end; without
/// arguments it is a spawner.
fn main(arguments: [Option<&core::ffi::CStr>; 2]) -> ! {
    match arguments {
        [Some(connection), kept] => direct::run(connection, kept),
        _ => spawner::run(),
    }
}
