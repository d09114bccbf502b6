//! The whole root file system of a container as one archive, without what is mounted in it.

use std::os::fd::AsFd as _;

use super::copy::{ArchiveStream, pack};
use super::{Container, Error};
use crate::snapshot::{merged, tree::Top};

impl Container {
    /// Its files as a tar archive, which can be imported as an image.
    ///
    /// # Errors
    /// When its files cannot be reached. What goes wrong later is the last item of the stream.
    pub async fn export(&self) -> Result<ArchiveStream, Error> {
        let bare = self.bare().await?;
        let stream = pack(self.inner.id, move |packer| {
            let root = merged::reopened(bare.root.as_fd()).map_err(crate::snapshot::Error::host("open the root"))?;
            packer.tree(root, Top::Contents)
        })?;
        self.shared.tell(&self.inner.record(), "export", &[]);
        Ok(stream)
    }
}
