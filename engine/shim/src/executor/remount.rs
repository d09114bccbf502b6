//! Attributes of mounts without `mount_setattr`, which came with Linux 5.12: a mount is attached first and then remounted.

use core::ffi::CStr;

use super::mounts::Attributes;
use super::process::{decimal, join};
use super::{Executor, Step};
use crate::plan::{MAX_SLOTS, Slot};
use crate::system::{self, Descriptor, Errno, Result};

const ATTR_ATIME: u64 = 0x70;
/// `MOUNT_ATTR_*`, `ST_*` of `statfs`, and `MS_*` of `mount`.
const FLAGS: [(u64, u64, u64); 6] = [
    (0x1, 0x1, 0x1),
    (0x2, 0x2, 0x2),
    (0x4, 0x4, 0x4),
    (0x8, 0x8, 0x8),
    (0x80, 0x800, 0x800),
    (0x20_0000, 0x2000, 0x100),
];
const MS_REMOUNT_BIND: u64 = 0x20 | 0x1000;
const MS_REC: u64 = 0x4000;

impl Executor<'_> {
    pub(super) fn use_old_attributes(&mut self) -> Step {
        let room = system::map(MAX_SLOTS * size_of::<Attributes>())?;
        // SAFETY: a mapping is aligned to pages, and zeros are attributes that say nothing.
        let (_, room, _) = unsafe { room.align_to_mut::<Attributes>() };
        self.deferred = room;
        self.old_attributes = true;
        Ok(())
    }

    pub(super) fn set_attributes(&mut self, slot: Slot, attributes: Attributes) -> Step {
        let mount = self.slot(slot)?;
        if !self.old_attributes || self.attached & 1 << slot.0 != 0 {
            return Ok(self.change_mount(mount, attributes)?);
        }
        let place = self.deferred.get_mut(usize::from(slot.0)).ok_or(Errno::INVAL)?;
        *place = place.and(attributes);
        Ok(())
    }

    /// Does what was put off until the mount of a slot is in place.
    pub(super) fn is_attached(&mut self, slot: Slot) -> Step {
        self.attached |= 1 << slot.0;
        let Some(place) = self.deferred.get_mut(usize::from(slot.0)) else { return Ok(()) };
        let attributes = core::mem::replace(place, Attributes::NONE);
        if attributes == Attributes::NONE {
            return Ok(());
        }
        let mount = self.slot(slot)?;
        Ok(self.change_mount(mount, attributes)?)
    }

    /// Changes a mount; without `mount_setattr` it has to be attached, and what lies below it only follows in propagation.
    pub(super) fn change_mount(&self, mount: Descriptor, attributes: Attributes) -> Result<()> {
        let Attributes { set, clear, propagation, recursive } = attributes;
        if !self.old_attributes {
            return system::set_mount_attributes(mount, set, clear, propagation, recursive);
        }
        let mut buffer = [0; 64];
        let is_directory = system::metadata(mount)?.is(system::S_IFDIR);
        let path = if is_directory {
            system::change_directory(mount)?;
            c"."
        } else {
            join(&mut buffer, &[b"/proc/self/fd/", decimal(mount, &mut [0; 12])]).map_err(|_| Errno::NAMETOOLONG)?
        };
        let changed = remount(mount, path, attributes);
        if is_directory {
            system::change_directory_to(c"/")?;
        }
        changed
    }
}

fn remount(mount: Descriptor, path: &CStr, attributes: Attributes) -> Result<()> {
    let Attributes { set, clear, propagation, recursive } = attributes;
    if set | clear != 0 {
        system::remount(path, MS_REMOUNT_BIND | flags(system::mount_flags_of(mount)?, set, clear))?;
    }
    if propagation != 0 {
        system::remount(path, propagation | if recursive { MS_REC } else { 0 })?;
    }
    Ok(())
}

/// The flags of `mount` for a mount that has `present` flags of `statfs`, once `set` and `clear` have changed it.
fn flags(present: u64, set: u64, clear: u64) -> u64 {
    let mut flags = 0;
    for (attribute, of_statfs, of_mount) in FLAGS {
        if set & attribute != 0 || (present & of_statfs != 0 && clear & attribute == 0) {
            flags |= of_mount;
        }
    }
    let said = (set | clear) & ATTR_ATIME != 0;
    flags
        | match (said, set & ATTR_ATIME) {
            (true, 0x10) => 0x400,
            (true, 0x20) => 0x100_0000,
            (false, _) if present & 0x400 != 0 => 0x400,
            (false, _) if present & 0x1000 == 0 => 0x100_0000,
            _ => 0x20_0000,
        }
}

#[cfg(test)]
mod tests {
    use super::flags;

    #[test]
    fn what_is_not_spoken_of_stays() {
        const RELATIME: u64 = 0x20_0000;
        assert_eq!(flags(0x1000, 0x1, 0), 1 | RELATIME);
        assert_eq!(flags(0x1000 | 0x1 | 0x2, 0, 0x1), 2 | RELATIME);
        assert_eq!(flags(0x400 | 0x8, 0x4, 0), 0x400 | 0x8 | 0x4);
        assert_eq!(flags(0x400, 0, 0x70), RELATIME);
        assert_eq!(flags(0x1000, 0x10, 0x70), 0x400);
        assert_eq!(flags(0, 0x20_0000, 0), 0x100 | 0x100_0000);
    }
}
