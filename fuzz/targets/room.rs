//! A place to unpack to, in memory, which is gone afterwards.

use std::path::PathBuf;
use std::sync::OnceLock;

use engine::snapshot::{Error, Layers, Staged};

/// One directory for the whole run: `root` is the engine's, and nothing else is ever in it.
pub fn room() -> &'static PathBuf {
    static ROOM: OnceLock<PathBuf> = OnceLock::new();
    ROOM.get_or_init(|| {
        let room = PathBuf::from(format!("/dev/shm/engine-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(room.join("root")).expect("a directory in memory");
        room
    })
}

pub fn layers() -> &'static Layers {
    static LAYERS: OnceLock<Layers> = OnceLock::new();
    LAYERS.get_or_init(|| Layers::open(&room().join("root")).expect("a place for layers"))
}

/// Unpacks on a thread of its own, since that gives it a umask of its own.
pub fn unpack(archive: Vec<u8>) -> Result<Staged, Error> {
    let unpacking = std::thread::spawn(move || layers().stage()?.unpack_framed(archive.as_slice()));
    unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
