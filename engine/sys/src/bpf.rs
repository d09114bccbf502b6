//! Programs that decide which devices the processes of a cgroup may use (`BPF_PROG_TYPE_CGROUP_DEVICE`).

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const PROG_DETACH: c_long = 9;
const PROG_GET_FD_BY_ID: c_long = 13;
const PROG_QUERY: c_long = 16;
/// The most programs that the kernel lets a cgroup have.
const MAX_PROGRAMS: usize = 64;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// A cgroup further down may have a program of its own; all of them must agree.
const ALLOW_MULTIPLE: u32 = 2;

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is left out as zero.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for `BPF_PROG_QUERY`; the kernel fills the places in and says how many they are.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
}

/// The head of `union bpf_attr` for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    program: u32,
    next: u32,
    flags: u32,
}

fn number(descriptor: BorrowedFd<'_>) -> io::Result<u32> {
    u32::try_from(descriptor.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<c_long> {
    // SAFETY: `attributes` lives during the call and is as long as is said; every pointer in it is to memory that the caller
    // borrows meanwhile. No command but `query` writes, and that has its own call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), std::mem::size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Loads a program of eBPF instructions.
///
/// # Errors
/// `EINVAL` or `EACCES` when the kernel's verifier refuses it, `EPERM` without `CAP_BPF`, `ENOSYS` without eBPF.
pub fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    let load = Load {
        kind: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let descriptor = bpf(PROG_LOAD, &load)?;
    let descriptor = i32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches a program to a cgroup of version 2. The cgroup keeps it after the descriptor is closed.
///
/// # Errors
/// `EBADF` when `cgroup` is no directory of version 2.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: impl AsFd) -> io::Result<()> {
    let attach = Attach {
        target: number(cgroup)?,
        program: number(program.as_fd())?,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTIPLE,
    };
    bpf(PROG_ATTACH, &attach).map(drop)
}

/// Attaches a program to a cgroup of version 2 and takes those away that it had. There is no moment without one.
///
/// # Errors
/// As [`attach_device_program`].
pub fn replace_device_programs(cgroup: BorrowedFd<'_>, program: impl AsFd) -> io::Result<()> {
    let before = attached(cgroup)?;
    attach_device_program(cgroup, program)?;
    for id in before {
        let old = match bpf(PROG_GET_FD_BY_ID, &ById { program: id, next: 0, flags: 0 }) {
            Ok(descriptor) => i32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidData)?,
            // Somebody took it away meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        let old = unsafe { OwnedFd::from_raw_fd(old) };
        let detach =
            Attach { target: number(cgroup)?, program: number(old.as_fd())?, kind: ATTACH_CGROUP_DEVICE, flags: 0 };
        bpf(PROG_DETACH, &detach)?;
    }
    Ok(())
}

/// The programs of a cgroup itself, by their numbers.
fn attached(cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; MAX_PROGRAMS];
    let mut query = Query {
        target: number(cgroup)?,
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        programs: programs.as_mut_ptr() as u64,
        count: 64,
        padding: 0,
    };
    // SAFETY: the kernel writes the two fields that it owns, and as many numbers as there is room for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, std::mem::size_of::<Query>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(programs.into_iter().take(query.count as usize).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `r0 = 1; exit`
    const ALLOW: [u64; 2] = [0x1_0000_00b7, 0x95];

    #[test]
    fn a_program_is_loaded_and_nonsense_is_not() {
        load_device_program(&ALLOW).unwrap();
        assert!(load_device_program(&[0xff]).is_err());
        assert!(load_device_program(&[]).is_err());
    }

    #[test]
    fn only_a_cgroup_takes_a_program() {
        let program = load_device_program(&ALLOW).unwrap();
        let directory = std::fs::File::open("/").unwrap();
        assert!(attach_device_program(directory.as_fd(), &program).is_err());
    }
}
