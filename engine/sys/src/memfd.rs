//! Sealed memory files: bytes that nobody can change any more, to be handed to another process or executed.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// What a sealed file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// To be read or mapped.
    Read,
    /// To be executed.
    Execute,
}

/// A memory file with these bytes that can neither be written, grown nor shrunk. `name` is seen in `/proc` only.
///
/// # Errors
/// What the kernel says; `EACCES` for [`Use::Execute`] where `vm.memfd_noexec` forbids it.
pub fn sealed(name: &str, bytes: &[u8], purpose: Use) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let kind = match purpose {
        Use::Read => MemfdFlags::NOEXEC_SEAL,
        Use::Execute => MemfdFlags::EXEC,
    };
    let file = match rustix::fs::memfd_create(name, flags | kind) {
        // Before Linux 6.3 neither flag is known.
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sealed_file_holds_its_bytes_and_takes_no_others() {
        let file = sealed("test", b"plan", Use::Read).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(rustix::io::pread(&file, &mut buffer, 0).unwrap(), 4);
        assert_eq!(&buffer[..4], b"plan");
        assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&file, 0), Err(rustix::io::Errno::PERM));
    }
}
