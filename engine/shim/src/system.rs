//! System calls without libc: thin wrappers whose safety follows from their types.
//!
//! Descriptors are plain numbers here; who opens one closes it.

use core::ffi::CStr;
use core::mem::MaybeUninit;

pub(crate) mod number;

/// An errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const PERM: Self = Self(1);
    pub(crate) const NOENT: Self = Self(2);
    pub(crate) const INTR: Self = Self(4);
    pub(crate) const IO: Self = Self(5);
    pub(crate) const BADF: Self = Self(9);
    pub(crate) const AGAIN: Self = Self(11);
    pub(crate) const NOMEM: Self = Self(12);
    pub(crate) const ACCES: Self = Self(13);
    pub(crate) const EXIST: Self = Self(17);
    pub(crate) const NOTDIR: Self = Self(20);
    pub(crate) const ISDIR: Self = Self(21);
    pub(crate) const INVAL: Self = Self(22);
    pub(crate) const NAMETOOLONG: Self = Self(36);
    pub(crate) const NOSYS: Self = Self(38);
    pub(crate) const LOOP: Self = Self(40);
    pub(crate) const CONNRESET: Self = Self(104);
}

pub(crate) type Result<T> = core::result::Result<T, Errno>;
/// The number of an open descriptor.
pub(crate) type Descriptor = i32;

pub(crate) const AT_FDCWD: Descriptor = -100;
pub(crate) const AT_EMPTY_PATH: u32 = 0x1000;
pub(crate) const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
pub(crate) const AT_RECURSIVE: u32 = 0x8000;
pub(crate) const AT_EACCESS: u32 = 0x200;

pub(crate) const O_RDONLY: u64 = 0;
pub(crate) const O_WRONLY: u64 = 1;
pub(crate) const O_RDWR: u64 = 2;
pub(crate) const O_CREAT: u64 = 0o100;
pub(crate) const O_EXCL: u64 = 0o200;
pub(crate) const O_NOCTTY: u64 = 0o400;
pub(crate) const O_TRUNC: u64 = 0o1000;
pub(crate) const O_APPEND: u64 = 0o2000;
pub(crate) const O_NONBLOCK: u64 = 0o4000;
pub(crate) const O_CLOEXEC: u64 = 0o2_000_000;
pub(crate) const O_PATH: u64 = 0o10_000_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: u64 = 0o200_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: u64 = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: u64 = 0o40_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: u64 = 0o100_000;

pub(crate) const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub(crate) const RESOLVE_NO_SYMLINKS: u64 = 0x04;
pub(crate) const RESOLVE_IN_ROOT: u64 = 0x10;

pub(crate) const S_IFMT: u32 = 0o170_000;
pub(crate) const S_IFREG: u32 = 0o100_000;
pub(crate) const S_IFDIR: u32 = 0o040_000;
pub(crate) const S_IFIFO: u32 = 0o010_000;
pub(crate) const S_IFLNK: u32 = 0o120_000;
pub(crate) const S_IFCHR: u32 = 0o020_000;

pub(crate) const CLONE_PIDFD: u64 = 0x1000;
pub(crate) const CLONE_PARENT: u64 = 0x8000;
pub(crate) const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const CLONE_NEWPID: u64 = 0x2000_0000;
pub(crate) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGPIPE: i32 = 13;
pub(crate) const SIGCHLD: i32 = 17;

pub(crate) const POLLIN: i16 = 0x01;
pub(crate) const POLLOUT: i16 = 0x04;
pub(crate) const POLLERR: i16 = 0x08;
pub(crate) const POLLHUP: i16 = 0x10;
pub(crate) const POLLPRI: i16 = 0x02;

#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller vouches for the arguments; the kernel changes rax, rcx and r11 only.
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn call(number: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller vouches for the arguments; the kernel changes x0 only.
    unsafe {
        core::arch::asm!("svc #0", in("x8") number, inlateout("x0") a[0] => result, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}

fn outcome(result: isize) -> Result<usize> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result as usize) }
}

/// A system call whose pointers, if any, are good for what the kernel does with them.
macro_rules! syscall {
    (@ $number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        // SAFETY: every wrapper passes numbers, or pointers with lengths of references that it holds.
        outcome(unsafe {
            call(number::$number, [($a) as usize, ($b) as usize, ($c) as usize, ($d) as usize, ($e) as usize, ($f) as usize])
        })
    };
    ($number:ident) => { syscall!(@ $number, 0, 0, 0, 0, 0, 0) };
    ($number:ident, $a:expr) => { syscall!(@ $number, $a, 0, 0, 0, 0, 0) };
    ($number:ident, $a:expr, $b:expr) => { syscall!(@ $number, $a, $b, 0, 0, 0, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr) => { syscall!(@ $number, $a, $b, $c, 0, 0, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr) => { syscall!(@ $number, $a, $b, $c, $d, 0, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => { syscall!(@ $number, $a, $b, $c, $d, $e, 0) };
    ($number:ident, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => { syscall!(@ $number, $a, $b, $c, $d, $e, $f) };
}

mod sockets;
pub(crate) use sockets::{MAX_RIGHTS, accept, enlarge_queue, peer_uid, receive, send, shut_down_writing, socket_pair};

/// Ends the process.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = syscall!(EXIT_GROUP, code);
    }
}

// ---- memory ---------------------------------------------------------------------------------------------

/// Memory of zeros that costs nothing until it is touched.
pub(crate) fn map(length: usize) -> Result<&'static mut [u8]> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS_NORESERVE: usize = 0x4022;
    let address = syscall!(MMAP, 0, length, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1isize, 0)?;
    // SAFETY: a new mapping of this length that nobody else knows of.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length) })
}

/// A file's first bytes, read-only. The file must be sealed against shrinking.
pub(crate) fn map_file(file: Descriptor, length: usize) -> Result<&'static [u8]> {
    const PROT_READ: usize = 1;
    const MAP_PRIVATE: usize = 2;
    let address = syscall!(MMAP, 0, length, PROT_READ, MAP_PRIVATE, file, 0)?;
    // SAFETY: a new mapping of this length; the seals keep the file from changing under it.
    Ok(unsafe { core::slice::from_raw_parts(address as *const u8, length) })
}

/// Gives a mapping back.
pub(crate) fn unmap(memory: &'static mut [u8]) {
    let _ = syscall!(MUNMAP, memory.as_mut_ptr(), memory.len());
}

/// Gives a file's mapping back.
///
/// # Safety
/// Nobody may hold a reference into it any more.
pub(crate) unsafe fn unmap_file(memory: &'static [u8]) {
    let _ = syscall!(MUNMAP, memory.as_ptr(), memory.len());
}

/// Gives the pages of a mapping back; it reads as zeros afterwards.
pub(crate) fn forget_pages(memory: &mut [u8]) {
    const MADV_DONTNEED: usize = 4;
    let _ = syscall!(MADVISE, memory.as_mut_ptr(), memory.len(), MADV_DONTNEED);
}

// ---- descriptors ----------------------------------------------------------------------------------------

pub(crate) fn close(descriptor: Descriptor) {
    if descriptor >= 0 {
        let _ = syscall!(CLOSE, descriptor);
    }
}

pub(crate) fn read(descriptor: Descriptor, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match syscall!(READ, descriptor, buffer.as_mut_ptr(), buffer.len()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Reads from the beginning of a file, wherever it was read before.
pub(crate) fn read_from_start(descriptor: Descriptor, buffer: &mut [u8]) -> Result<usize> {
    syscall!(PREAD64, descriptor, buffer.as_mut_ptr(), buffer.len(), 0)
}

pub(crate) fn write(descriptor: Descriptor, bytes: &[u8]) -> Result<usize> {
    loop {
        match syscall!(WRITE, descriptor, bytes.as_ptr(), bytes.len()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(crate) fn write_all(descriptor: Descriptor, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(descriptor, bytes)? {
            0 => return Err(Errno::IO),
            written => bytes = &bytes[written.min(bytes.len())..],
        }
    }
    Ok(())
}

/// The two ends of a pipe, close-on-exec: reading, writing.
pub(crate) fn pipe() -> Result<(Descriptor, Descriptor)> {
    let mut ends = [0i32; 2];
    syscall!(PIPE2, ends.as_mut_ptr(), O_CLOEXEC)?;
    Ok((ends[0], ends[1]))
}

/// Makes `to` a copy of `from`; not close-on-exec unless `close_on_exec`.
pub(crate) fn duplicate_to(from: Descriptor, to: Descriptor, close_on_exec: bool) -> Result<()> {
    syscall!(DUP3, from, to, if close_on_exec { O_CLOEXEC } else { 0 }).map(drop)
}

/// A close-on-exec copy with a number of at least `least`.
pub(crate) fn duplicate_above(descriptor: Descriptor, least: i32) -> Result<Descriptor> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    syscall!(FCNTL, descriptor, F_DUPFD_CLOEXEC, least).map(|copy| copy as Descriptor)
}

pub(crate) fn set_close_on_exec(descriptor: Descriptor, on: bool) -> Result<()> {
    const F_SETFD: usize = 2;
    syscall!(FCNTL, descriptor, F_SETFD, usize::from(on)).map(drop)
}

pub(crate) fn set_nonblocking(descriptor: Descriptor) -> Result<()> {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    let flags = syscall!(FCNTL, descriptor, F_GETFL)?;
    syscall!(FCNTL, descriptor, F_SETFL, flags | O_NONBLOCK as usize).map(drop)
}

/// The seals of a memory file.
pub(crate) fn seals(descriptor: Descriptor) -> Result<u32> {
    const F_GET_SEALS: usize = 1034;
    syscall!(FCNTL, descriptor, F_GET_SEALS).map(|seals| seals as u32)
}

/// Closes every descriptor from `first` on, or with `on_exec` marks it to be closed at `execve`.
pub(crate) fn close_from(first: Descriptor, on_exec: bool) {
    const CLOSE_RANGE_CLOEXEC: usize = 4;
    let flags = if on_exec { CLOSE_RANGE_CLOEXEC } else { 0 };
    if syscall!(CLOSE_RANGE, first, u32::MAX, flags).is_err() {
        // Before Linux 5.11.
        for descriptor in first..4096 {
            if on_exec {
                let _ = set_close_on_exec(descriptor, true);
            } else {
                close(descriptor);
            }
        }
    }
}

/// Closes the descriptors from `first` to `last`.
pub(crate) fn close_between(first: Descriptor, last: Descriptor) {
    if first <= last {
        let _ = syscall!(CLOSE_RANGE, first, last, 0);
    }
}

/// One entry of [`poll`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PollEntry {
    pub(crate) descriptor: Descriptor,
    pub(crate) events: i16,
    pub(crate) happened: i16,
}

/// Waits until something happens or the time is over (`None`: for ever).
pub(crate) fn poll(entries: &mut [PollEntry], milliseconds: Option<u32>) -> Result<usize> {
    let time = milliseconds.map(|all| [i64::from(all / 1000), i64::from(all % 1000) * 1_000_000]);
    let time = time.as_ref().map_or(core::ptr::null(), |time| time.as_ptr());
    match syscall!(PPOLL, entries.as_mut_ptr(), entries.len(), time, 0, 0) {
        Err(Errno::INTR) => Ok(0),
        other => other,
    }
}

// ---- files ----------------------------------------------------------------------------------------------

pub(crate) fn open_at(directory: Descriptor, path: &CStr, flags: u64, mode: u32) -> Result<Descriptor> {
    syscall!(OPENAT, directory, path.as_ptr(), flags | O_CLOEXEC, mode).map(|opened| opened as Descriptor)
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `openat2`: tried again when a rename elsewhere made the kernel unsure that the path stays inside.
pub(crate) fn open_within(
    directory: Descriptor,
    path: &CStr,
    flags: u64,
    mode: u32,
    resolve: u64,
) -> Result<Descriptor> {
    let how = OpenHow { flags: flags | O_CLOEXEC, mode: u64::from(mode), resolve };
    let mut tries = 0;
    loop {
        match syscall!(OPENAT2, directory, path.as_ptr(), &raw const how, size_of::<OpenHow>()) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 128 => tries += 1,
            other => return other.map(|opened| opened as Descriptor),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [u64; 8],
    device_major: u32,
    device_minor: u32,
    rest: [u64; 15],
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not know.
    pub(crate) born: u64,
}

impl Metadata {
    pub(crate) fn is(&self, kind: u32) -> bool {
        self.mode & S_IFMT == kind
    }

    /// `/dev/null` and nothing else.
    pub(crate) fn is_null_device(&self) -> bool {
        self.is(S_IFCHR) && self.device == (1, 3)
    }
}

fn statx(directory: Descriptor, path: &CStr, flags: u32) -> Result<Metadata> {
    const BASIC_AND_BIRTH: usize = 0xfff;
    const BIRTH: u32 = 0x800;
    let mut buffer = MaybeUninit::<Statx>::zeroed();
    syscall!(STATX, directory, path.as_ptr(), flags, BASIC_AND_BIRTH, buffer.as_mut_ptr())?;
    // SAFETY: plain numbers, zeroed and then filled by the kernel.
    let found = unsafe { buffer.assume_init() };
    let device = (found.device_major, found.device_minor);
    let born = match found.mask & BIRTH {
        0 => 0,
        _ => found.times[2].saturating_mul(1_000_000_000).saturating_add(found.times[3] & 0xffff_ffff),
    };
    let (mode, inode) = (u32::from(found.mode), found.inode);
    Ok(Metadata { mode, size: found.size, device, uid: found.uid, gid: found.gid, inode, born })
}

pub(crate) fn metadata(descriptor: Descriptor) -> Result<Metadata> {
    statx(descriptor, c"", AT_EMPTY_PATH)
}

/// As `stat`: symbolic links are followed.
pub(crate) fn metadata_at(directory: Descriptor, path: &CStr) -> Result<Metadata> {
    statx(directory, path, 0)
}

/// As `lstat`: a symbolic link is what it is.
pub(crate) fn metadata_of_link(directory: Descriptor, path: &CStr) -> Result<Metadata> {
    statx(directory, path, AT_SYMLINK_NOFOLLOW)
}

/// Entries of a directory as `struct linux_dirent64`, one behind the other; 0 bytes at the end.
pub(crate) fn entries(directory: Descriptor, buffer: &mut [u8]) -> Result<usize> {
    syscall!(GETDENTS64, directory, buffer.as_mut_ptr(), buffer.len())
}

pub(crate) fn change_mode(descriptor: Descriptor, mode: u32) -> Result<()> {
    syscall!(FCHMOD, descriptor, mode).map(drop)
}

/// The magic number of the file system that a descriptor lies on.
pub(crate) fn file_system_of(descriptor: Descriptor) -> Result<u64> {
    let mut buffer = [0u64; 16];
    syscall!(FSTATFS, descriptor, buffer.as_mut_ptr())?;
    Ok(buffer[0])
}

/// The `ST_*` flags of the mount that a descriptor lies on.
pub(crate) fn mount_flags_of(descriptor: Descriptor) -> Result<u64> {
    let mut buffer = [0u64; 16];
    syscall!(FSTATFS, descriptor, buffer.as_mut_ptr())?;
    // struct statfs: type, bsize, blocks, bfree, bavail, files, ffree, fsid (8 bytes), namelen, frsize, flags.
    Ok(buffer[10])
}

pub(crate) fn make_directory_at(directory: Descriptor, name: &CStr, mode: u32) -> Result<()> {
    syscall!(MKDIRAT, directory, name.as_ptr(), mode).map(drop)
}

pub(crate) fn make_node_at(directory: Descriptor, name: &CStr, mode: u32, (major, minor): (u32, u32)) -> Result<()> {
    let device = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
    syscall!(MKNODAT, directory, name.as_ptr(), mode, device).map(drop)
}

pub(crate) fn make_link_at(target: &CStr, directory: Descriptor, name: &CStr) -> Result<()> {
    syscall!(SYMLINKAT, target.as_ptr(), directory, name.as_ptr()).map(drop)
}

pub(crate) fn read_link_at(directory: Descriptor, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    syscall!(READLINKAT, directory, name.as_ptr(), buffer.as_mut_ptr(), buffer.len())
}

pub(crate) fn rename_at(directory: Descriptor, from: &CStr, to: &CStr) -> Result<()> {
    syscall!(RENAMEAT2, directory, from.as_ptr(), directory, to.as_ptr(), 0).map(drop)
}

/// Takes the name of a file away.
pub(crate) fn unlink_at(directory: Descriptor, name: &CStr) -> Result<()> {
    syscall!(UNLINKAT, directory, name.as_ptr(), 0).map(drop)
}

/// Changes the owner of a name, not of what a symbolic link names.
pub(crate) fn change_owner_at(directory: Descriptor, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    syscall!(FCHOWNAT, directory, name.as_ptr(), uid, gid, AT_SYMLINK_NOFOLLOW).map(drop)
}

/// Changes the owner of an open file; `u32::MAX` leaves a number as it is.
pub(crate) fn change_owner(descriptor: Descriptor, uid: u32, gid: u32) -> Result<()> {
    syscall!(FCHOWN, descriptor, uid, gid).map(drop)
}

/// Whether the effective user may do `mode` (1: execute) with a file.
pub(crate) fn access_at(directory: Descriptor, path: &CStr, mode: u32) -> Result<()> {
    syscall!(FACCESSAT2, directory, path.as_ptr(), mode, AT_EACCESS).map(drop)
}

pub(crate) fn change_directory(directory: Descriptor) -> Result<()> {
    syscall!(FCHDIR, directory).map(drop)
}

pub(crate) fn change_directory_to(path: &CStr) -> Result<()> {
    syscall!(CHDIR, path.as_ptr()).map(drop)
}

/// The working directory; the kernel says `(unreachable)` in front of one that is outside of the root.
pub(crate) fn working_directory(buffer: &mut [u8]) -> Result<&[u8]> {
    let length = syscall!(GETCWD, buffer.as_mut_ptr(), buffer.len())?;
    buffer.get(..length.saturating_sub(1)).ok_or(Errno::NAMETOOLONG)
}

pub(crate) fn set_umask(mode: u32) {
    let _ = syscall!(UMASK, mode);
}

// ---- mounts ---------------------------------------------------------------------------------------------

pub(crate) fn change_propagation(flags: u64) -> Result<()> {
    syscall!(MOUNT, 0, c"/".as_ptr(), 0, flags, 0).map(drop)
}

/// Changes what is mounted at a path by the old call.
pub(crate) fn remount(path: &CStr, flags: u64) -> Result<()> {
    syscall!(MOUNT, 0, path.as_ptr(), 0, flags, 0).map(drop)
}

/// Mounts an overlay on the working directory, by the old call.
pub(crate) fn mount_overlay_here(options: &CStr) -> Result<()> {
    let kind = c"overlay".as_ptr();
    syscall!(MOUNT, kind, c".".as_ptr(), kind, 0, options.as_ptr()).map(drop)
}

/// Detaches the topmost mount at a path.
pub(crate) fn detach_mount(path: &CStr) -> Result<()> {
    const MNT_DETACH: usize = 2;
    syscall!(UMOUNT2, path.as_ptr(), MNT_DETACH).map(drop)
}

pub(crate) fn open_file_system(kind: &CStr) -> Result<Descriptor> {
    const FSOPEN_CLOEXEC: usize = 1;
    syscall!(FSOPEN, kind.as_ptr(), FSOPEN_CLOEXEC).map(|opened| opened as Descriptor)
}

pub(crate) fn configure_string(context: Descriptor, key: &CStr, value: &CStr) -> Result<()> {
    const FSCONFIG_SET_STRING: usize = 1;
    syscall!(FSCONFIG, context, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr(), 0).map(drop)
}

pub(crate) fn configure_flag(context: Descriptor, key: &CStr) -> Result<()> {
    const FSCONFIG_SET_FLAG: usize = 0;
    syscall!(FSCONFIG, context, FSCONFIG_SET_FLAG, key.as_ptr(), 0, 0).map(drop)
}

pub(crate) fn configure_descriptor(context: Descriptor, key: &CStr, descriptor: Descriptor) -> Result<()> {
    const FSCONFIG_SET_FD: usize = 5;
    syscall!(FSCONFIG, context, FSCONFIG_SET_FD, key.as_ptr(), 0, descriptor).map(drop)
}

/// Completes a file system and makes a detached mount of it; the context is left open.
pub(crate) fn mount_file_system(context: Descriptor, attributes: u64) -> Result<Descriptor> {
    const FSCONFIG_CMD_CREATE: usize = 6;
    const FSMOUNT_CLOEXEC: usize = 1;
    syscall!(FSCONFIG, context, FSCONFIG_CMD_CREATE, 0, 0, 0)?;
    syscall!(FSMOUNT, context, FSMOUNT_CLOEXEC, attributes).map(|mounted| mounted as Descriptor)
}

/// A detached copy of the mount at a path.
pub(crate) fn clone_tree(directory: Descriptor, path: &CStr, recursive: bool) -> Result<Descriptor> {
    const OPEN_TREE_CLONE: u64 = 1;
    let mut flags = OPEN_TREE_CLONE | O_CLOEXEC | u64::from(AT_EMPTY_PATH);
    if recursive {
        flags |= u64::from(AT_RECURSIVE);
    }
    syscall!(OPEN_TREE, directory, path.as_ptr(), flags).map(|tree| tree as Descriptor)
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Shows the files of a detached mount as the user namespace maps them.
pub(crate) fn map_mount(mount: Descriptor, user_namespace: Descriptor, recursive: bool) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let attributes =
        MountAttributes { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, user_namespace: user_namespace as u64 };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    syscall!(MOUNT_SETATTR, mount, c"".as_ptr(), flags, &raw const attributes, size_of::<MountAttributes>()).map(drop)
}

pub(crate) fn set_mount_attributes(
    mount: Descriptor,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<()> {
    let attributes = MountAttributes { set, clear, propagation, user_namespace: 0 };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    syscall!(MOUNT_SETATTR, mount, c"".as_ptr(), flags, &raw const attributes, size_of::<MountAttributes>()).map(drop)
}

/// Attaches a detached mount on what another descriptor names.
pub(crate) fn attach_mount(mount: Descriptor, target: Descriptor) -> Result<()> {
    const F_EMPTY_PATH_T_EMPTY_PATH: usize = 0x04 | 0x40;
    syscall!(MOVE_MOUNT, mount, c"".as_ptr(), target, c"".as_ptr(), F_EMPTY_PATH_T_EMPTY_PATH).map(drop)
}

/// Makes the working directory the root and leaves the old root stacked on it.
pub(crate) fn pivot_root_here() -> Result<()> {
    syscall!(PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()).map(drop)
}

/// Makes the working directory the root of this process.
pub(crate) fn change_root_here() -> Result<()> {
    syscall!(CHROOT, c".".as_ptr()).map(drop)
}

pub(crate) fn detach_mount_here() -> Result<()> {
    const MNT_DETACH: usize = 2;
    syscall!(UMOUNT2, c".".as_ptr(), MNT_DETACH).map(drop)
}

// ---- namespaces and processes ---------------------------------------------------------------------------

pub(crate) fn join_namespace(descriptor: Descriptor, kinds: u64) -> Result<()> {
    syscall!(SETNS, descriptor, kinds).map(drop)
}

pub(crate) fn unshare(flags: u64) -> Result<()> {
    syscall!(UNSHARE, flags).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What [`fork`] returned into.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one: the child's pid and, with `CLONE_PIDFD`, its pidfd (otherwise -1).
    Parent(i32, Descriptor),
}

/// `clone3` without shared memory. `cgroup` is a directory for `CLONE_INTO_CGROUP`.
pub(crate) fn fork(flags: u64, cgroup: Option<Descriptor>) -> Result<Forked> {
    let mut pidfd: Descriptor = -1;
    let mut arguments = CloneArguments {
        flags,
        pidfd: &raw mut pidfd as u64,
        // The kernel takes the parent's own exit signal with CLONE_PARENT.
        exit_signal: if flags & CLONE_PARENT == 0 { SIGCHLD as u64 } else { 0 },
        ..Default::default()
    };
    if let Some(directory) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = directory as u64;
    }
    let child = match syscall!(CLONE3, &raw mut arguments, size_of::<CloneArguments>()) {
        // A filter cannot look into its arguments, so many refuse it.
        Err(Errno::NOSYS) if cgroup.is_none() => syscall!(CLONE, flags | arguments.exit_signal, 0, &raw mut pidfd)?,
        cloned => cloned?,
    };
    // SAFETY: reads what the kernel may have written.
    let pidfd = unsafe { (&raw const pidfd).read_volatile() };
    Ok(if child == 0 { Forked::Child } else { Forked::Parent(child as i32, pidfd) })
}

/// A fork by the old call, which filters let through that know no `clone3`. Zero in the child.
pub(crate) fn fork_filtered() -> Result<i32> {
    syscall!(CLONE, SIGCHLD, 0, 0, 0, 0).map(|pid| pid as i32)
}

/// Sends a signal to a process of this pid namespace.
pub(crate) fn send_signal(pid: i32, signal: i32) -> Result<()> {
    syscall!(KILL, pid, signal).map(drop)
}

/// Makes this process a group of its own, and that the one that reads from the terminal, if standard input is one.
pub(crate) fn lead_group() {
    const TIOCSPGRP: usize = 0x5410;
    let group = match syscall!(SETPGID, 0, 0).and_then(|_| syscall!(GETPID)) {
        Ok(group) => group as i32,
        Err(_) => return,
    };
    let _ = syscall!(IOCTL, 0, TIOCSPGRP, &raw const group);
}

pub(crate) fn open_process(pid: i32) -> Result<Descriptor> {
    syscall!(PIDFD_OPEN, pid, 0).map(|opened| opened as Descriptor)
}

/// Signals every process of the group that a child has begun which was not reaped yet.
pub(crate) fn signal_group(leader: i32, signal: i32) -> Result<()> {
    syscall!(KILL, -leader, signal).map(drop)
}

pub(crate) fn signal_process(pidfd: Descriptor, signal: i32) -> Result<()> {
    syscall!(PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0).map(drop)
}

/// A child that has ended: its pid, and the code as a shell would say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) pid: i32,
    pub(crate) code: i32,
}

/// Looks for a child that has ended: any, or the one with this pid. It stays a zombie unless `reap`.
pub(crate) fn look_for_ended(pid: Option<i32>, reap: bool) -> Result<Option<Ended>> {
    const P_ALL: usize = 0;
    const P_PID: usize = 1;
    const WNOHANG_WEXITED: usize = 1 | 4;
    const WNOWAIT: usize = 0x0100_0000;
    const CLD_EXITED: i32 = 1;
    let mut information = [0i32; 32];
    let options = WNOHANG_WEXITED | if reap { 0 } else { WNOWAIT };
    let kind = if pid.is_some() { P_PID } else { P_ALL };
    syscall!(WAITID, kind, pid.unwrap_or(0), information.as_mut_ptr(), options, 0)?;
    // siginfo_t: signo, errno, code, (padding), pid, uid, status.
    let [_, _, code, _, pid, _, status, ..] = information;
    if pid == 0 {
        return Ok(None);
    }
    Ok(Some(Ended { pid, code: if code == CLD_EXITED { status } else { 128 + (status & 0x7f) } }))
}

/// Waits for the end of a child and reaps it; the code as a shell would say it.
pub(crate) fn wait_for(pid: i32) -> Result<i32> {
    const P_PID: usize = 1;
    const WEXITED: usize = 4;
    const CLD_EXITED: i32 = 1;
    let mut information = [0i32; 32];
    loop {
        match syscall!(WAITID, P_PID, pid, information.as_mut_ptr(), WEXITED, 0) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    let [_, _, code, _, _, _, status, ..] = information;
    Ok(if code == CLD_EXITED { status } else { 128 + (status & 0x7f) })
}

/// The pid of this process in its own pid namespace.
pub(crate) fn own_pid() -> i32 {
    syscall!(GETPID).map_or(0, |pid| pid as i32)
}

pub(crate) fn new_session() -> Result<()> {
    syscall!(SETSID).map(drop)
}

pub(crate) fn effective_uid() -> u32 {
    syscall!(GETEUID).map_or(u32::MAX, |uid| uid as u32)
}

pub(crate) fn set_host_name(name: &CStr) -> Result<()> {
    syscall!(SETHOSTNAME, name.as_ptr(), name.count_bytes()).map(drop)
}

pub(crate) fn set_domain_name(name: &CStr) -> Result<()> {
    syscall!(SETDOMAINNAME, name.as_ptr(), name.count_bytes()).map(drop)
}

/// The resource of open files.
pub(crate) const RLIMIT_NOFILE: u32 = 7;

/// The limit of a resource, soft and hard.
pub(crate) fn limit(resource: u32) -> Result<[u64; 2]> {
    let mut limit = [0u64; 2];
    syscall!(PRLIMIT64, 0, resource, 0, limit.as_mut_ptr())?;
    Ok(limit)
}

pub(crate) fn set_limit(resource: u32, limit: [u64; 2]) -> Result<()> {
    syscall!(PRLIMIT64, 0, resource, limit.as_ptr(), 0).map(drop)
}

pub(crate) fn control_process(option: u32, a: u64, b: u64) -> Result<usize> {
    syscall!(PRCTL, option, a, b, 0, 0)
}

/// The name that `ps` shows.
pub(crate) fn set_process_name(name: &CStr) {
    const PR_SET_NAME: usize = 15;
    let _ = syscall!(PRCTL, PR_SET_NAME, name.as_ptr(), 0, 0, 0);
}

pub(crate) fn set_groups(groups: &[u32]) -> Result<()> {
    syscall!(SETGROUPS, groups.len(), groups.as_ptr()).map(drop)
}

pub(crate) fn set_gid(gid: u32) -> Result<()> {
    syscall!(SETRESGID, gid, gid, gid).map(drop)
}

pub(crate) fn set_uid(uid: u32) -> Result<()> {
    syscall!(SETRESUID, uid, uid, uid).map(drop)
}

/// Effective, permitted and inheritable capabilities as bit masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapabilitySets {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

const CAPABILITY_HEADER: [u32; 2] = [0x2008_0522, 0];

pub(crate) fn capabilities() -> Result<CapabilitySets> {
    let mut header = CAPABILITY_HEADER;
    let mut words = [0u32; 6];
    syscall!(CAPGET, header.as_mut_ptr(), words.as_mut_ptr())?;
    let join = |low: usize| u64::from(words[low]) | u64::from(words[low + 3]) << 32;
    Ok(CapabilitySets { effective: join(0), permitted: join(1), inheritable: join(2) })
}

pub(crate) fn set_capabilities(sets: CapabilitySets) -> Result<()> {
    let mut header = CAPABILITY_HEADER;
    let masks = [sets.effective, sets.permitted, sets.inheritable];
    let mut words = [0u32; 6];
    for (at, mask) in masks.into_iter().enumerate() {
        words[at] = mask as u32;
        words[at + 3] = (mask >> 32) as u32;
    }
    syscall!(CAPSET, header.as_mut_ptr(), words.as_ptr()).map(drop)
}

#[repr(C)]
struct FilterProgram {
    length: u16,
    filter: *const u8,
}

/// Installs a cBPF program; `filter` holds whole instructions of 8 bytes. With the flag for one, its listener is returned.
pub(crate) fn set_filter(flags: u32, filter: &[u8]) -> Result<Descriptor> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    let length = u16::try_from(filter.len() / 8).map_err(|_| Errno::INVAL)?;
    if !filter.len().is_multiple_of(8) {
        return Err(Errno::INVAL);
    }
    let program = FilterProgram { length, filter: filter.as_ptr() };
    syscall!(SECCOMP, SECCOMP_SET_MODE_FILTER, flags, &raw const program).map(|listener| listener as Descriptor)
}

#[repr(C)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

pub(crate) fn set_scheduler(attributes: &SchedulerAttributes) -> Result<()> {
    syscall!(SCHED_SETATTR, 0, &raw const *attributes, 0).map(drop)
}

pub(crate) fn set_io_priority(value: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    syscall!(IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, value).map(drop)
}

pub(crate) fn set_affinity(mask: &[u8]) -> Result<()> {
    syscall!(SCHED_SETAFFINITY, 0, mask.len(), mask.as_ptr()).map(drop)
}

pub(crate) fn set_personality(persona: u32) -> Result<()> {
    syscall!(PERSONALITY, persona).map(drop)
}

/// `nodes` is copied into words, as the kernel reads them.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<()> {
    let mut words = [0u64; 16];
    for (at, byte) in nodes.iter().enumerate() {
        *words.get_mut(at / 8).ok_or(Errno::INVAL)? |= u64::from(*byte) << (8 * (at % 8));
    }
    let (mask, bits) = if nodes.is_empty() { (core::ptr::null(), 0) } else { (words.as_ptr(), 16 * 64) };
    syscall!(SET_MEMPOLICY, mode, mask, bits).map(drop)
}

/// A nonblocking counter of events.
pub(crate) fn event_descriptor() -> Result<Descriptor> {
    syscall!(EVENTFD2, 0, O_CLOEXEC | O_NONBLOCK).map(|made| made as Descriptor)
}

pub(crate) fn join_new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    syscall!(KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, 0).map(drop)
}

/// Becomes another program. Returns only when that failed.
///
/// # Safety
/// Both arrays must end in a null pointer and every other pointer must name a C string.
pub(crate) unsafe fn execute(path: &CStr, arguments: *const *const u8, environment: *const *const u8) -> Errno {
    match syscall!(EXECVE, path.as_ptr(), arguments, environment) {
        Err(errno) => errno,
        Ok(_) => Errno::NOSYS,
    }
}

// ---- signals and time -----------------------------------------------------------------------------------

/// Sets every signal to its default action and blocks none.
pub(crate) fn reset_signals() {
    let default = [0u64; 4];
    for signal in 1..=64 {
        let _ = syscall!(RT_SIGACTION, signal, default.as_ptr(), 0, 8);
    }
    set_signal_mask(0);
}

pub(crate) fn ignore_signal(signal: i32) {
    const SIG_IGN: u64 = 1;
    set_action(signal, SIG_IGN);
}

pub(crate) fn default_signal(signal: i32) {
    set_action(signal, 0);
}

fn set_action(signal: i32, handler: u64) {
    let action = [handler, 0, 0, 0];
    let _ = syscall!(RT_SIGACTION, signal, action.as_ptr(), 0, 8);
}

/// Blocks all signals, or none.
pub(crate) fn block_signals(all: bool) {
    set_signal_mask(if all { u64::MAX } else { 0 });
}

/// Waits for one of the blocked signals, and takes it.
pub(crate) fn next_signal() -> Result<i32> {
    let all = u64::MAX;
    syscall!(RT_SIGTIMEDWAIT, &raw const all, 0, 0, 8).map(|signal| signal as i32)
}

fn set_signal_mask(mask: u64) {
    const SIG_SETMASK: usize = 2;
    let _ = syscall!(RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, 0, 8);
}

/// Blocks a signal and makes a nonblocking descriptor that is readable while it is pending.
pub(crate) fn signal_descriptor(signal: i32) -> Result<Descriptor> {
    let mask = 1u64 << (signal - 1);
    set_signal_mask(mask);
    syscall!(SIGNALFD4, -1isize, &raw const mask, 8, O_CLOEXEC | O_NONBLOCK).map(|made| made as Descriptor)
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    clock(0)
}

/// Milliseconds of a clock that is never set.
pub(crate) fn ticks() -> u64 {
    clock(1) / 1_000_000
}

fn clock(which: usize) -> u64 {
    let mut time = [0i64; 2];
    let _ = syscall!(CLOCK_GETTIME, which, time.as_mut_ptr());
    (time[0] as u64).wrapping_mul(1_000_000_000).wrapping_add(time[1] as u64)
}

// ---- terminals ------------------------------------------------------------------------------------------

/// Lets the other side of a pseudoterminal be opened.
pub(crate) fn unlock_terminal(master: Descriptor) -> Result<()> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    let locked = 0i32;
    syscall!(IOCTL, master, TIOCSPTLCK, &raw const locked).map(drop)
}

/// Opens the other side of a pseudoterminal without a path.
pub(crate) fn open_terminal_peer(master: Descriptor) -> Result<Descriptor> {
    const TIOCGPTPEER: usize = 0x5441;
    syscall!(IOCTL, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC).map(|opened| opened as Descriptor)
}

pub(crate) fn set_terminal_size(terminal: Descriptor, rows: u16, columns: u16) -> Result<()> {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [rows, columns, 0, 0];
    syscall!(IOCTL, terminal, TIOCSWINSZ, size.as_ptr()).map(drop)
}

/// Makes a terminal the controlling one of this session.
pub(crate) fn control_terminal(terminal: Descriptor) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    syscall!(IOCTL, terminal, TIOCSCTTY, 0).map(drop)
}
