//! What a container has changed of its image's files.

use engine_sys::path::Root;

use super::inventory::blocking;
use super::{Container, Error};
use crate::snapshot::{Change, merged, tree};

/// What is made so that the engine's own mounts have a place.
const STUBS: [&str; 6] = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

impl Container {
    /// Everything that is not as the image has it, parents before what is in them.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub async fn changes(&self) -> Result<Vec<Change>, Error> {
        self.owned()?;
        let overlay = self.overlay();
        blocking(move || {
            let failed = |error| Error::io("compare", &overlay.upper, error);
            let upper = Root::open(&overlay.upper).map_err(failed)?.into_fd();
            let lower = merged::root(&overlay.lower).map_err(failed)?.map(Root::into_fd);
            let is_stub = |path: &[u8]| STUBS.iter().any(|stub| stub.as_bytes() == path);
            Ok(tree::changes(upper, lower, &is_stub)?)
        })
        .await
    }
}
