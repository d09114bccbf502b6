//! The exit record, and the kernel's counter of processes killed for lack of memory.

use crate::executor::decimal;
use crate::system::{self, Descriptor, Result};

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) oom_killed: bool,
    pub(super) at_nanos: u64,
}

/// Puts the record into the run directory, whole or not at all.
pub(super) fn write_record(directory: Descriptor, exit: Exit) -> Result<()> {
    if directory < 0 {
        return Ok(());
    }
    let mut line = [0; 64];
    let length = format(exit, &mut line);
    let flags = system::O_WRONLY | system::O_CREAT | system::O_TRUNC | system::O_NOFOLLOW;
    let file = system::open_at(directory, c"exit.new", flags, 0o600)?;
    let written = system::write_all(file, &line[..length]);
    system::close(file);
    written?;
    system::rename_at(directory, c"exit.new", c"exit")
}

/// A version, the code, whether memory ran out, the time.
fn format(exit: Exit, line: &mut [u8; 64]) -> usize {
    let mut length = 0;
    let mut put = |bytes: &[u8]| {
        line[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    put(b"1 ");
    put(decimal(exit.code, &mut [0; 12]));
    put(if exit.oom_killed { b" 1 " } else { b" 0 " });
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = exit.at_nanos;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    put(&digits[at..]);
    put(b"\n");
    length
}

/// The number behind `oom_kill` in a file of lines of a name and a number, 0 when there is none; `None` when the file
/// cannot be read (any more).
pub(super) fn read_oom_kills(counter: Descriptor) -> Option<u64> {
    let mut buffer = [0; 512];
    let length = system::read_from_start(counter, &mut buffer).ok()?;
    Some(parse_oom_kills(&buffer[..length]))
}

fn parse_oom_kills(text: &[u8]) -> u64 {
    let mut number = 0u64;
    for line in text.split(|byte| *byte == b'\n') {
        if let Some(digits) = line.strip_prefix(b"oom_kill ") {
            for digit in digits.iter().filter(|byte| byte.is_ascii_digit()) {
                number = number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
            }
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let mut line = [0; 64];
        let longest = Exit { code: -2_147_483_648, oom_killed: true, at_nanos: u64::MAX };
        let length = format(longest, &mut line);
        assert_eq!(&line[..length], b"1 -2147483648 1 18446744073709551615\n");
        let length = format(Exit { code: 0, oom_killed: false, at_nanos: 0 }, &mut line);
        assert_eq!(&line[..length], b"1 0 0 0\n");
    }

    #[test]
    fn kills_are_read_in_both_layouts() {
        assert_eq!(parse_oom_kills(b"low 0\nhigh 0\nmax 3\noom 2\noom_kill 12\noom_group_kill 0\n"), 12);
        assert_eq!(parse_oom_kills(b"oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), 1);
        assert_eq!(parse_oom_kills(b""), 0);
    }
}
