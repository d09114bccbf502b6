//! Memory without a heap: tables that grow in reserved address space, and byte queues that exist while they hold bytes.

use crate::system::{self, Errno, Result};

/// A list of bounded length. Its pages cost nothing before they are used.
pub(crate) struct Table<T: 'static> {
    memory: *mut T,
    length: usize,
    capacity: usize,
}

impl<T> Table<T> {
    pub(crate) fn new(capacity: usize) -> Result<Self> {
        const { assert!(!core::mem::needs_drop::<T>() && align_of::<T>() <= 4096) };
        let memory = system::map(capacity * size_of::<T>())?;
        Ok(Self { memory: memory.as_mut_ptr().cast(), length: 0, capacity })
    }

    pub(crate) fn is_full(&self) -> bool {
        self.length == self.capacity
    }

    /// Adds an item; one that finds no room is given back.
    pub(crate) fn push(&mut self, item: T) -> core::result::Result<(), T> {
        if self.is_full() {
            return Err(item);
        }
        // SAFETY: below the capacity, in memory of the table's own.
        unsafe { self.memory.add(self.length).write(item) };
        self.length += 1;
        Ok(())
    }

    /// Takes an item out; the last one takes its place.
    pub(crate) fn swap_remove(&mut self, index: usize) -> Option<T> {
        if index >= self.length {
            return None;
        }
        self.length -= 1;
        // SAFETY: both are items; the last one is moved, and no longer counted where it was.
        unsafe {
            let item = self.memory.add(index).read();
            if index != self.length {
                self.memory.add(index).write(self.memory.add(self.length).read());
            }
            Some(item)
        }
    }

    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }
}

impl<T> core::ops::Deref for Table<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: that many items were written.
        unsafe { core::slice::from_raw_parts(self.memory, self.length) }
    }
}

impl<T> core::ops::DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: that many items were written, and the table is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.memory, self.length) }
    }
}

impl<T> core::fmt::Debug for Table<T> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Table({} of {})", self.length, self.capacity)
    }
}

/// The least address space of a queue that holds bytes.
const LEAST: usize = 128 << 10;

/// Bytes on their way. The memory is given back when the last one has left.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    memory: Option<&'static mut [u8]>,
    start: usize,
    end: usize,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.memory.as_deref().map_or(&[], |memory| &memory[self.start..self.end])
    }

    /// Adds bytes, as long as there are at most `bound` then.
    pub(crate) fn push(&mut self, bytes: &[u8], bound: usize) -> Result<()> {
        let needed = self.len() + bytes.len();
        if needed > bound {
            return Err(Errno::NOMEM);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let present = self.memory.as_deref().map_or(0, <[u8]>::len);
        if present < needed {
            let larger = system::map(needed.next_power_of_two().max(LEAST))?;
            larger[..self.len()].copy_from_slice(self.as_slice());
            (self.start, self.end) = (0, self.len());
            if let Some(smaller) = self.memory.replace(larger) {
                system::unmap(smaller);
            }
        }
        if let Some(memory) = self.memory.as_deref_mut() {
            if memory.len() - self.end < bytes.len() {
                memory.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            memory[self.end..self.end + bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
        Ok(())
    }

    /// Lets the first bytes go.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
        if let Some(memory) = self.memory.take() {
            system::unmap(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_table_keeps_to_its_bound() {
        let mut table = Table::new(3).unwrap();
        for item in [1u64, 2, 3] {
            table.push(item).unwrap();
        }
        assert_eq!(table.push(4), Err(4));
        assert_eq!(table.swap_remove(0), Some(1));
        assert_eq!(*table, [3, 2]);
        assert_eq!(table.swap_remove(1), Some(2));
        assert_eq!(table.swap_remove(1), None);
        assert_eq!(*table, [3]);
    }

    #[test]
    fn a_queue_returns_what_was_put_in() {
        let mut queue = Queue::default();
        let mut expected = Vec::new();
        for round in 0..200usize {
            let bytes: Vec<u8> = (0..round * 37).map(|at| (at ^ round) as u8).collect();
            queue.push(&bytes, 1 << 20).unwrap();
            expected.extend_from_slice(&bytes);
            let some = expected.len() / 3;
            assert_eq!(queue.as_slice()[..some], expected[..some]);
            queue.consume(some);
            expected.drain(..some);
        }
        assert_eq!(queue.as_slice(), expected);
        assert_eq!(queue.push(&[0; 100], queue.len() + 99), Err(Errno::NOMEM));
        queue.consume(usize::MAX >> 1);
        assert!(queue.is_empty() && queue.memory.is_none());
    }
}
