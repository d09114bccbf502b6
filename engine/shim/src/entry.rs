//! What a freestanding program needs before `main`: the entry point, memory functions and the panic handler.

use crate::system;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call engine_shim_main",
    "ud2",
    options(att_syntax)
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl engine_shim_main",
    "brk #1"
);

/// The most arguments that are looked at, without the program's name.
const MAX_ARGUMENTS: usize = 2;

/// `stack` is what the kernel puts there: the number of arguments, then a pointer to each.
#[unsafe(no_mangle)]
extern "C" fn engine_shim_main(stack: *const usize) -> ! {
    let mut arguments = [None; MAX_ARGUMENTS];
    // SAFETY: the kernel wrote the number.
    let given = unsafe { stack.read() };
    for (at, argument) in arguments.iter_mut().enumerate().take(given.saturating_sub(1)) {
        // SAFETY: there are so many pointers, each to a string with a NUL that lives as long as the process.
        *argument = Some(unsafe { core::ffi::CStr::from_ptr(stack.add(at + 2).read() as *const core::ffi::c_char) });
    }
    crate::main(arguments)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    system::exit(70)
}

/// Never called: the program is compiled with `panic=abort`; the prebuilt `core` names it nevertheless.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// # Safety
/// As C's `memcpy`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller vouches for both ranges; the direction flag is clear as the ABI demands.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut at = 0;
        while at < count {
            // SAFETY: the caller vouches for both ranges. Volatile, so that the loop does not become a call of this.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
            at += 1;
        }
    }
    to
}

/// # Safety
/// As C's `memmove`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: copying upwards never overwrites what is still to be read here.
        return unsafe { memcpy(to, from, count) };
    }
    let mut at = count;
    while at > 0 {
        at -= 1;
        // SAFETY: the caller vouches for both ranges. Volatile, so that the loop does not become a call of this.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
    }
    to
}

/// # Safety
/// As C's `memset`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller vouches for the range; the direction flag is clear as the ABI demands.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut at = 0;
        while at < count {
            // SAFETY: the caller vouches for the range. Volatile, so that the loop does not become a call of this.
            unsafe { to.add(at).write_volatile(byte as u8) };
            at += 1;
        }
    }
    to
}

/// # Safety
/// As C's `memcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    let mut at = 0;
    while at < count {
        // SAFETY: the caller vouches for both ranges.
        let (a, b) = unsafe { (left.add(at).read_volatile(), right.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
        at += 1;
    }
    0
}

/// # Safety
/// As C's `bcmp`.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the same contract.
    unsafe { memcmp(left, right, count) }
}

/// # Safety
/// As C's `strlen`.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a NUL.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
