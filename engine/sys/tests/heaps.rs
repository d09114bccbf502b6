//! A program of its own, since heaps are shared from the first thread on or not at all.

use std::collections::BTreeSet;
use std::sync::Barrier;

/// So large at most, and aligned so, is the heap of a thread.
const HEAP: usize = 64 << 20;

fn main() {
    engine_sys::memory::share_heaps();
    let all_there = Barrier::new(16);
    let heap = || {
        let small = std::hint::black_box(vec![1_u8; 1000]);
        all_there.wait();
        small.as_ptr().addr() / HEAP
    };
    let heaps: BTreeSet<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(heap)).collect();
        threads.into_iter().flat_map(std::thread::ScopedJoinHandle::join).collect()
    });
    assert!(!cfg!(target_env = "gnu") || heaps.len() <= 8, "16 threads have {} heaps", heaps.len());
}
