//! A screen of a terminal that is written again and again.

use std::os::fd::AsFd as _;

use crate::session::Session;

/// `text` as what is written over the screen, without a flicker; what does not fit is counted in the last line.
pub(crate) fn redrawn(text: &str, session: &Session) -> String {
    let height = crate::terminal::size(session.io.stdout.as_fd()).map_or(usize::MAX, |(rows, _)| usize::from(rows));
    within(text, height)
}

fn within(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let fits = if lines.len() < height { lines.len() } else { height.saturating_sub(2).max(1) };
    let mut screen = "\x1b[H".to_owned();
    for line in &lines[..fits.min(lines.len())] {
        screen.push_str(line);
        screen.push_str("\x1b[K\r\n");
    }
    if fits < lines.len() {
        screen.push_str(&format!("and {} more\x1b[K", lines.len() - fits));
    }
    screen.push_str("\x1b[J");
    screen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_written_over_and_what_does_not_fit_is_counted() {
        assert_eq!(within("a\nb\n", 10), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
        assert_eq!(within("a\nb\nc\nd\n", 4), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\nand 2 more\x1b[K\x1b[J");
    }
}
