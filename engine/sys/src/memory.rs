//! How the heap of this process asks for memory and gives it back.

/// The least that is had from the kernel on its own, and so goes back to it when it is freed.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 << 10;

/// Has the C library give large buffers back as soon as they are freed: a daemon that has passed gigabytes on in them is as small
/// afterwards as before. Left alone, it keeps such buffers for the next ones, in up to eight heaps for each processor. It is a setting
/// of the whole process, so it is for programs and not for libraries. Nothing happens with another C library.
pub fn return_large_buffers() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and changes only how later requests are served.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Has the threads of this process share heaps, one for each processor, but at least two and at most eight. Left alone, the C library
/// begins one for each thread that is there at the same time, up to eight for each processor, and each keeps what it once had: a
/// daemon whose threads mostly wait would for good be as large as all of them at their largest. It is for programs, as above, and
/// must be called before there is another thread.
pub fn share_heaps() {
    #[cfg(target_env = "gnu")]
    {
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let heaps = libc::c_int::try_from(processors.clamp(2, 8)).unwrap_or(2);
        // SAFETY: it takes two numbers, and changes only how later requests are served.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, heaps);
        }
    }
}

/// Has what is freed put together with what is free beside it at once. Left alone, the C library keeps small pieces apart beyond the few
/// that each thread has at hand, and goes through all of them whenever something large is asked for or freed, as it is for
/// each exec. It is for programs, as above.
pub fn merge_at_once() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and changes only how later requests are served.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn large_buffers_go_back_to_the_kernel() {
        super::return_large_buffers();
        // Without it, the first one that is freed raises the threshold, and the others stay in a heap beneath what is still used.
        drop(vec![1_u8; 1 << 20]);
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            large.push(vec![1_u8; 256 << 10]);
            small.push(vec![1_u8; 1000]);
        }
        let before = resident();
        drop(large);
        assert!(before - resident() > 40 << 20);
        drop(small);
    }
}
