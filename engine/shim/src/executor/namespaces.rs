//! The steps that go into namespaces, existing and new ones.

use core::ffi::CStr;

use super::process::{decimal, join};
use super::{Executor, Step};
use crate::plan::{Fd, Slot};
use crate::report::Report;
use crate::system::{self, CLONE_NEWPID, CLONE_NEWUSER, CLONE_PARENT, Descriptor, Errno, Forked, Result};

impl Executor<'_> {
    /// Joins namespaces. Those of pids hold for children only, so the executor goes on in one that has the monitor as
    /// its parent.
    pub(super) fn join(&mut self, of: Fd, kinds: u64) -> Step {
        system::join_namespace(self.descriptor(of)?, kinds)?;
        if kinds & CLONE_NEWUSER != 0 {
            become_superuser()?;
        }
        if kinds & CLONE_NEWPID == 0 {
            return Ok(());
        }
        self.go_on_in_child(0)
    }

    pub(super) fn go_on_in_child(&mut self, namespaces: u64) -> Step {
        let (told, tell) = system::pipe()?;
        match system::fork(CLONE_PARENT | namespaces, None)? {
            Forked::Child => {
                // Nothing may happen before the monitor can know whose doing it is: the end of the pipe says so.
                system::close(tell);
                let mut pid = [0; 4];
                let _ = system::read(told, &mut pid);
                // Then the end, when the monitor has been told.
                let _ = system::read(told, &mut [0]);
                system::close(told);
                self.host_pid = i32::from_ne_bytes(pid);
                // It showed the pids of where the executor was before.
                system::close(core::mem::replace(&mut self.proc, -1));
                Ok(system::new_session()?)
            }
            Forked::Parent(pid, _) => {
                let _ = system::write(tell, &pid.to_ne_bytes());
                let _ = Report::Moved(pid).send(self.channel, &[]);
                system::exit(0)
            }
        }
    }

    pub(super) fn make_user_namespace(&mut self, uids: &CStr, gids: &CStr) -> Step {
        let proc = self.proc()?;
        let executor = system::own_pid();
        // The maps have to be written from outside, where the privilege to do so is.
        let (told, tell) = system::pipe()?;
        match system::fork(0, None)? {
            Forked::Child => {
                system::close(tell);
                let written = match system::read(told, &mut [0]) {
                    Ok(1) => write_maps(proc, executor, uids, gids),
                    _ => Err(Errno::IO),
                };
                system::exit(written.err().map_or(0, |errno| errno.0))
            }
            Forked::Parent(writer, _) => {
                system::close(told);
                let made = system::unshare(CLONE_NEWUSER);
                let said = made.and_then(|()| system::write_all(tell, b"g"));
                system::close(tell);
                let errno = system::wait_for(writer)?;
                said?;
                if errno != 0 {
                    return Err(Errno(errno).into());
                }
            }
        }
        Ok(become_superuser()?)
    }

    pub(super) fn map_ids(&mut self, slot: Slot, uids: &CStr, gids: &CStr, recursive: bool) -> Step {
        let mount = self.slot(slot)?;
        let proc = self.proc()?;
        // The kernel takes the maps from a user namespace, so there has to be one: that of a child that only waits.
        let (told, tell) = system::pipe()?;
        match system::fork(CLONE_NEWUSER, None)? {
            Forked::Child => {
                system::close(tell);
                let _ = system::read(told, &mut [0]);
                system::exit(0)
            }
            Forked::Parent(holder, _) => {
                system::close(told);
                let mapped = write_maps(proc, holder, uids, gids).and_then(|()| {
                    let namespace = of_process(proc, holder, b"/ns/user", system::O_RDONLY)?;
                    let mapped = system::map_mount(mount, namespace, recursive);
                    system::close(namespace);
                    mapped
                });
                system::close(tell);
                system::wait_for(holder)?;
                Ok(mapped?)
            }
        }
    }
}

/// In a new user namespace nobody is anybody yet.
fn become_superuser() -> Result<()> {
    system::set_groups(&[])?;
    system::set_gid(0)?;
    system::set_uid(0)
}

fn write_maps(proc: Descriptor, pid: i32, uids: &CStr, gids: &CStr) -> Result<()> {
    for (name, map) in [(&b"/gid_map"[..], gids), (b"/uid_map", uids)] {
        let file = of_process(proc, pid, name, system::O_WRONLY)?;
        let written = system::write(file, map.to_bytes());
        system::close(file);
        written?;
    }
    Ok(())
}

fn of_process(proc: Descriptor, pid: i32, name: &[u8], flags: u64) -> Result<Descriptor> {
    let mut path = [0; 64];
    let path = join(&mut path, &[decimal(pid, &mut [0; 12]), name]).map_err(|_| Errno::NAMETOOLONG)?;
    system::open_at(proc, path, flags, 0)
}
