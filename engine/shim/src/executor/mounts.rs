//! The steps that assemble the container's root.

use core::ffi::CStr;

use super::{Executor, Step};
use crate::beneath::{self, Leaf, Links};
use crate::plan::{Fd, Slot};
use crate::protocol::Reason;
use crate::report::Report;
use crate::system::{self, Descriptor, Errno};

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_NOEXEC: u64 = 0x8;
const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

/// What is to become of a mount: `MOUNT_ATTR_*` to set and to clear, and an `MS_*` flag of propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) recursive: bool,
}

impl Attributes {
    pub(super) const NONE: Self = Self { set: 0, clear: 0, propagation: 0, recursive: false };

    /// Both, where a later word overrules an earlier one.
    pub(super) fn and(self, later: Self) -> Self {
        let propagates = later.propagation != 0;
        Self {
            set: self.set & !later.clear | later.set,
            clear: self.clear & !later.set | later.clear,
            propagation: if propagates { later.propagation } else { self.propagation },
            recursive: if propagates { later.recursive } else { self.recursive },
        }
    }
}

impl Executor<'_> {
    /// Changes a mount that is in place already.
    pub(super) fn set_attributes_at(
        &mut self,
        path: &CStr,
        set: u64,
        clear: u64,
        propagation: u64,
        recursive: bool,
    ) -> Step {
        let root = self.root()?;
        let mount = beneath::open(root, path, system::O_PATH, Links::Refuse)?;
        let done = self.change_mount(mount, Attributes { set, clear, propagation, recursive });
        system::close(mount);
        Ok(done?)
    }

    /// A device node of the host, for where none can be made.
    pub(super) fn clone_device(&mut self, slot: Slot, path: &CStr, kind: u32, device: (u32, u32)) -> Step {
        self.clone_tree(slot, system::AT_FDCWD, path, false)?;
        let found = system::metadata(self.slot(slot)?)?;
        let same = found.is(kind) && (kind == system::S_IFIFO || found.device == device);
        if same { Ok(()) } else { Err(Reason::Impostor.into()) }
    }

    pub(super) fn clone_tree(&mut self, slot: Slot, directory: Descriptor, path: &CStr, recursive: bool) -> Step {
        let tree = system::clone_tree(directory, path, recursive)?;
        self.fill(slot, tree);
        Ok(())
    }

    pub(super) fn clone_descriptor(&mut self, slot: Slot, place: Fd, recursive: bool) -> Step {
        let descriptor = self.descriptor(place)?;
        let tree = match system::clone_tree(descriptor, c"", recursive) {
            // A mount that is detached already belongs to no namespace and is taken as it is.
            Err(Errno::INVAL) => system::duplicate_above(descriptor, 3)?,
            cloned => cloned?,
        };
        self.fill(slot, tree);
        Ok(())
    }

    pub(super) fn clone_beneath(&mut self, slot: Slot, path: &CStr, recursive: bool) -> Step {
        let root = self.root()?;
        let found = beneath::open(root, path, system::O_PATH, Links::Follow)?;
        let cloned = self.clone_tree(slot, found, c"", recursive);
        system::close(found);
        cloned
    }

    pub(super) fn take_root(&mut self, slot: Slot) -> Step {
        let mount = self.slot(slot)?;
        // A detached mount can carry no other before Linux 6.15, so it is put where there is always a directory: over
        // the old root of this private namespace, which pivoting moves away.
        let over = system::open_at(system::AT_FDCWD, c"/", system::O_PATH | system::O_DIRECTORY, 0)?;
        let attached = system::attach_mount(mount, over);
        system::close(over);
        attached?;
        system::close(self.root);
        self.root = system::duplicate_above(mount, 3)?;
        self.assembling = true;
        self.is_attached(slot)
    }

    /// In a mount namespace that others are in the root may not be put over theirs.
    pub(super) fn take_root_at(&mut self, slot: Slot, path: &CStr) -> Step {
        let mount = self.slot(slot)?;
        let target = system::open_at(system::AT_FDCWD, path, system::O_PATH | system::O_DIRECTORY, 0)?;
        let attached = system::attach_mount(mount, target);
        system::close(target);
        attached?;
        system::close(self.root);
        self.root = system::duplicate_above(mount, 3)?;
        self.assembling = true;
        self.is_attached(slot)
    }

    pub(super) fn change_root(&mut self) -> Step {
        let root = self.root()?;
        system::change_directory(root)?;
        system::change_root_here()?;
        self.assembling = false;
        Ok(system::change_directory_to(c"/")?)
    }

    pub(super) fn move_mount(&mut self, slot: Slot, path: &CStr, strict: bool) -> Step {
        let mount = self.slot(slot)?;
        let root = self.root()?;
        let is_directory = system::metadata(mount)?.is(system::S_IFDIR);
        let leaf = if is_directory { Leaf::Directory(0o755) } else { Leaf::File };
        let target = beneath::ensure(root, path, leaf, if strict { Links::Refuse } else { Links::Follow })?;
        // A link of the image must not lead into the container's /proc, which other operations write through. One that is put
        // in the place of a directory meanwhile is seen too: without links the path would end there now as before.
        let leads_astray =
            !strict && system::file_system_of(target)? == PROC_SUPER_MAGIC && !leads_straight_to_proc(root, path)?;
        let attached = if leads_astray { Err(Errno::LOOP) } else { system::attach_mount(mount, target) };
        system::close(target);
        attached?;
        self.is_attached(slot)
    }

    pub(super) fn make_directory(&mut self, path: &CStr, mode: u32) -> Step {
        let root = self.root()?;
        system::close(beneath::ensure(root, path, Leaf::Directory(mode), Links::Follow)?);
        Ok(())
    }

    pub(super) fn make_node(&mut self, path: &CStr, mode: u32, device: (u32, u32), (uid, gid): (u32, u32)) -> Step {
        let root = self.root()?;
        let made = beneath::within_parent(root, path, |parent, name| {
            system::make_node_at(parent, name, mode, device)?;
            if (uid, gid) == (0, 0) { Ok(()) } else { system::change_owner_at(parent, name, uid, gid) }
        });
        match made {
            Err(Errno::EXIST) => {
                // One that is there already will do if it is the same device.
                let present = beneath::open(root, path, system::O_PATH | system::O_NOFOLLOW, Links::Follow)?;
                let found = system::metadata(present);
                system::close(present);
                let found = found?;
                let same = found.is(mode & system::S_IFMT) && found.device == device;
                if same { Ok(()) } else { Err(Reason::Impostor.into()) }
            }
            made => Ok(made?),
        }
    }

    pub(super) fn make_link(&mut self, target: &CStr, path: &CStr) -> Step {
        let root = self.root()?;
        match beneath::within_parent(root, path, |parent, name| system::make_link_at(target, parent, name)) {
            Err(Errno::EXIST) => Ok(()),
            made => Ok(made?),
        }
    }

    /// The container's own null device, and nothing that only looks like it.
    pub(super) fn null_device(&mut self, flags: u64) -> Step<Descriptor> {
        let root = self.root()?;
        let device = beneath::open(root, c"dev/null", flags, Links::Refuse)?;
        match system::metadata(device) {
            Ok(found) if found.is_null_device() => Ok(device),
            Ok(_) => {
                system::close(device);
                Err(Reason::Impostor.into())
            }
            Err(errno) => {
                system::close(device);
                Err(errno.into())
            }
        }
    }

    pub(super) fn mask(&mut self, path: &CStr) -> Step {
        let root = self.root()?;
        let target = match beneath::open(root, path, system::O_PATH, Links::Follow) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            opened => opened?,
        };
        let covered = self.cover(target);
        system::close(target);
        covered
    }

    fn cover(&mut self, target: Descriptor) -> Step {
        let source = if system::metadata(target)?.is(system::S_IFDIR) {
            if self.empty < 0 {
                let context = system::open_file_system(c"tmpfs")?;
                let made = system::configure_string(context, c"size", c"0")
                    .and_then(|()| system::configure_string(context, c"nr_inodes", c"1"))
                    .and_then(|()| system::configure_flag(context, c"ro"))
                    .and_then(|()| {
                        let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
                        system::mount_file_system(context, attributes)
                    });
                system::close(context);
                self.empty = made?;
                // The first one is attached itself; from then on it can be copied.
                return Ok(system::attach_mount(self.empty, target)?);
            }
            system::clone_tree(self.empty, c"", false)?
        } else {
            let device = self.null_device(system::O_PATH)?;
            let cloned = system::clone_tree(device, c"", false);
            system::close(device);
            cloned?
        };
        let attached = system::attach_mount(source, target);
        system::close(source);
        Ok(attached?)
    }

    pub(super) fn make_read_only(&mut self, path: &CStr) -> Step {
        let root = self.root()?;
        let target = match beneath::open(root, path, system::O_PATH, Links::Follow) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            opened => opened?,
        };
        let covered = system::clone_tree(target, c"", true).and_then(|tree| {
            let read_only = Attributes { set: MOUNT_ATTR_RDONLY, recursive: true, ..Attributes::NONE };
            let done = if self.old_attributes {
                system::attach_mount(tree, target).and_then(|()| self.change_mount(tree, read_only))
            } else {
                self.change_mount(tree, read_only).and_then(|()| system::attach_mount(tree, target))
            };
            system::close(tree);
            done
        });
        system::close(target);
        Ok(covered?)
    }

    pub(super) fn make_console(&mut self) -> Step {
        let root = self.root()?;
        let flags = system::O_RDWR | system::O_NOCTTY;
        let master = beneath::open(root, c"dev/pts/ptmx", flags, Links::Refuse)?;
        if system::file_system_of(master)? != DEVPTS_SUPER_MAGIC {
            return Err(Reason::Impostor.into());
        }
        system::unlock_terminal(master)?;
        let slave = system::open_terminal_peer(master)?;
        if let Some((rows, columns)) = self.pending.terminal_size {
            system::set_terminal_size(slave, rows, columns)?;
        }
        if self.assembling {
            // By descriptor: the name in the container's devpts could lead anywhere (CVE-2025-52565).
            let target = beneath::ensure(root, c"dev/console", Leaf::File, Links::Refuse)?;
            let bound = system::clone_tree(slave, c"", false).and_then(|tree| {
                let attached = system::attach_mount(tree, target);
                system::close(tree);
                attached
            });
            system::close(target);
            bound?;
        }
        for number in 0..3 {
            system::duplicate_to(slave, number, false)?;
        }
        system::control_terminal(0)?;
        self.input_is_null = false;
        let sent = Report::Terminal.send(self.channel, &[master, slave]);
        system::close(slave);
        system::close(master);
        Ok(sent?)
    }

    pub(super) fn pivot_root(&mut self) -> Step {
        let root = self.root()?;
        let old = system::open_at(system::AT_FDCWD, c"/", system::O_PATH | system::O_DIRECTORY, 0)?;
        system::change_directory(root)?;
        system::pivot_root_here()?;
        system::change_directory(old)?;
        system::close(old);
        system::detach_mount_here()?;
        self.assembling = false;
        Ok(system::change_directory_to(c"/")?)
    }

    pub(super) fn mount_overlay(&mut self, slot: Slot, directory: &CStr, options: &CStr) -> Step {
        system::change_directory_to(directory)?;
        system::mount_overlay_here(options)?;
        // The path now leads to what was mounted, the working directory to what is below it.
        let tree = system::clone_tree(system::AT_FDCWD, directory, false);
        let detached = system::detach_mount(directory);
        system::change_directory_to(c"/")?;
        self.fill(slot, tree?);
        Ok(detached?)
    }

    pub(super) fn make_root_read_only(&mut self) -> Step {
        let root = self.root()?;
        Ok(self.change_mount(root, Attributes { set: MOUNT_ATTR_RDONLY, ..Attributes::NONE })?)
    }
}

fn leads_straight_to_proc(root: Descriptor, path: &CStr) -> system::Result<bool> {
    match beneath::open(root, path, system::O_PATH, Links::Refuse) {
        Ok(direct) => {
            let found = system::file_system_of(direct);
            system::close(direct);
            Ok(found? == PROC_SUPER_MAGIC)
        }
        Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(error) => Err(error),
    }
}
