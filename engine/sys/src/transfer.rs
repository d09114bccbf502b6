//! Files on their way to and from sockets, pipes and other files: the kernel hands their pages on, and nothing of them passes through
//! the program where that can be helped. All of it waits for as long as the other side takes, on non-blocking descriptors too.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What is handed on at once, in bytes.
const MOST: u64 = 1 << 20;
/// What is read at once, in bytes, where the kernel cannot hand it on.
const CHUNK: u64 = 256 << 10;

/// Sends `length` bytes of a regular file, from `at` on.
///
/// # Errors
/// What the kernel says; [`io::ErrorKind::UnexpectedEof`] when the file has become shorter; [`io::ErrorKind::BrokenPipe`] or
/// [`io::ErrorKind::ConnectionReset`] when nobody reads any more.
pub fn send_file(to: BorrowedFd<'_>, file: &File, mut at: u64, length: u64) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        match rustix::fs::sendfile(to, file, Some(&mut at), at_once(left, MOST)) {
            Ok(0) => return Err(shorter()),
            Ok(sent) => left = left.saturating_sub(sent as u64),
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT)?,
            Err(Errno::INTR) => {}
            // Some file systems do not give their pages, and some targets do not take any.
            Err(Errno::INVAL | Errno::NOSYS) => return copy_file(to, file, at, left),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_file(to: BorrowedFd<'_>, file: &File, mut at: u64, length: u64) -> io::Result<()> {
    let mut left = length;
    let mut chunk = vec![0; at_once(length, CHUNK)];
    while left > 0 {
        let most = at_once(left, CHUNK);
        let read = match rustix::io::pread(file, &mut chunk[..most], at) {
            Ok(0) => return Err(shorter()),
            Err(Errno::INTR) => continue,
            read => read?,
        };
        send(to, &chunk[..read])?;
        at += read as u64;
        left -= read as u64;
    }
    Ok(())
}

/// Sends all of `bytes`.
///
/// # Errors
/// As [`send_file`].
pub fn send(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Appends the next `length` bytes of a socket to a file, or gives them to a pipe or whatever else it is.
///
/// # Errors
/// What failed, and at which side; [`io::ErrorKind::UnexpectedEof`] when less than that comes.
pub fn receive_file(socket: BorrowedFd<'_>, file: &File, length: u64) -> Result<(), Failed> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failed::From(error.into()))?;
    // Where a user has many pipes already it stays as it is.
    let _ = fcntl_setpipe_size(&writer, MOST as usize);
    let mut left = length;
    while left > 0 {
        match splice(socket, None, &writer, None, at_once(left, MOST), SpliceFlags::MOVE) {
            Ok(0) => return Err(Failed::From(io::ErrorKind::UnexpectedEof.into())),
            Ok(received) => {
                drain(reader.as_fd(), file, received)?;
                left = left.saturating_sub(received as u64);
            }
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN).map_err(Failed::From)?,
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) => return copy(socket, file, left),
            Err(error) => return Err(Failed::From(error.into())),
        }
    }
    Ok(())
}

/// What [`receive_file`] failed at.
#[derive(Debug)]
pub enum Failed {
    /// Reading.
    From(io::Error),
    /// Writing.
    To(io::Error),
}

/// Passes on what is in a pipe.
fn drain(pipe: BorrowedFd<'_>, file: &File, length: usize) -> Result<(), Failed> {
    let mut left = length;
    while left > 0 {
        match splice(pipe, None, file, None, left, SpliceFlags::MOVE) {
            Ok(0) => return Err(Failed::To(io::ErrorKind::WriteZero.into())),
            Ok(written) => left = left.saturating_sub(written),
            Err(Errno::AGAIN) => wait(file.as_fd(), PollFlags::OUT).map_err(Failed::To)?,
            Err(Errno::INTR) => {}
            // As of files that are open for appending.
            Err(Errno::INVAL) => return copy(pipe, file, left as u64),
            Err(error) => return Err(Failed::To(error.into())),
        }
    }
    Ok(())
}

fn copy(from: BorrowedFd<'_>, file: &File, length: u64) -> Result<(), Failed> {
    let mut left = length;
    let mut chunk = vec![0; at_once(length, CHUNK)];
    while left > 0 {
        let most = at_once(left, CHUNK);
        match rustix::io::read(from, &mut chunk[..most]) {
            Ok(0) => return Err(Failed::From(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => {
                send(file.as_fd(), &chunk[..read]).map_err(Failed::To)?;
                left -= read as u64;
            }
            Err(Errno::AGAIN) => wait(from, PollFlags::IN).map_err(Failed::From)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failed::From(error.into())),
        }
    }
    Ok(())
}

fn at_once(left: u64, most: u64) -> usize {
    usize::try_from(left.min(most)).unwrap_or(usize::MAX)
}

fn shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile")
}

fn wait(descriptor: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(descriptor, events)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::net::UnixStream;

    fn contents(length: u32) -> Vec<u8> {
        (0..length).map(|n| n.to_le_bytes()[1] ^ n.to_le_bytes()[0]).collect()
    }

    fn file(contents: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(contents).unwrap();
        file
    }

    fn read_all(file: &mut File) -> Vec<u8> {
        let mut all = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn a_part_of_a_file_goes_through_a_socket_into_another_one() {
        let sent = contents(3_000_000);
        let source = file(&sent);
        // As pages and as copies, at both sides.
        for (pages, splices) in [(true, true), (true, false), (false, true), (false, false)] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let mut target = file(b"before ");
            let source = source.try_clone().unwrap();
            let sending = std::thread::spawn(move || {
                send(ours.as_fd(), b"head ").unwrap();
                let send_part = if pages { send_file } else { copy_file };
                send_part(ours.as_fd(), &source, 1000, 2_500_000).unwrap();
            });
            let receive = if splices { receive_file } else { copy };
            receive(theirs.as_fd(), &target, 2_500_005).unwrap();
            sending.join().unwrap();
            assert!(read_all(&mut target) == [b"before head ", &sent[1000..2_501_000]].concat());
            assert!(matches!(
                receive(theirs.as_fd(), &target, 1),
                Err(Failed::From(error)) if error.kind() == io::ErrorKind::UnexpectedEof
            ));
        }
    }

    #[test]
    fn files_and_pipes_are_targets_too() {
        let sent = contents(300_000);
        let source = file(&sent);
        let mut target = file(b"");
        send_file(target.as_fd(), &source, 7, 200_000).unwrap();
        send_file(target.as_fd(), &source, 200_007, 99_993).unwrap();
        assert!(read_all(&mut target) == sent[7..]);
        let path = tempfile::NamedTempFile::new().unwrap();
        let appending = File::options().append(true).open(path.path()).unwrap();
        send_file(appending.as_fd(), &source, 0, 100_000).unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"and more").unwrap();
        receive_file(theirs.as_fd(), &appending, 8).unwrap();
        assert!(std::fs::read(path.path()).unwrap() == [&sent[..100_000], b"and more"].concat());
        let (mut reader, writer) = std::io::pipe().unwrap();
        let sending = std::thread::spawn(move || send_file(writer.as_fd(), &source, 0, 300_000).unwrap());
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        sending.join().unwrap();
        assert!(all == sent);
    }

    #[test]
    fn a_file_that_is_shorter_is_an_error() {
        let source = file(&[7; 300]);
        for send_part in [send_file, copy_file] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let error = send_part(ours.as_fd(), &source, 0, 5000).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            drop(ours);
            assert_eq!(theirs.read_to_end(&mut Vec::new()).unwrap(), 300);
        }
    }

    #[test]
    fn who_does_not_read_ends_it() {
        let source = tempfile::tempfile().unwrap();
        source.set_len(64 << 20).unwrap();
        for send_part in [send_file, copy_file] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let source = source.try_clone().unwrap();
            let sending = std::thread::spawn(move || send_part(ours.as_fd(), &source, 0, 64 << 20));
            theirs.read_exact(&mut [0; 100]).unwrap();
            drop(theirs);
            let kind = sending.join().unwrap().unwrap_err().kind();
            assert!(matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{kind:?}");
        }
    }

    #[test]
    fn a_target_that_takes_nothing_is_told_from_the_socket() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(&[1; 1000]).unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        match receive_file(theirs.as_fd(), &full, 1000) {
            Err(Failed::To(error)) => assert_eq!(error.raw_os_error(), Some(libc::ENOSPC)),
            other => panic!("{other:?}"),
        }
    }
}
