//! Tables: columns as wide as their longest cell plus three, and on a terminal never wider than it.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const PADDING: usize = 3;
const MINIMUM: usize = 10;
const WIDE: usize = 20;

/// Lines of cells; the first line is usually the header.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    wide: bool,
}

impl Table {
    /// A table of one line, the header.
    pub(crate) fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self::default();
        table.row(header);
        table
    }

    /// Columns are at least twenty wide, as those of processes are.
    pub(crate) fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Adds a line.
    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// A table of text whose cells are parted by tabs.
    pub(crate) fn from_tabbed(text: &str) -> Self {
        Self { rows: text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect(), wide: false }
    }

    /// The text of the table, cut to `width` columns if there is one.
    pub(crate) fn render(&self, width: Option<usize>) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut natural = vec![0usize; columns];
        for row in &self.rows {
            for (cell, wide) in row.iter().zip(natural.iter_mut()) {
                *wide = (*wide).max(cell.width());
            }
        }
        let widths = match width {
            Some(width) => fit(&natural, &self.floors(columns), width),
            None => natural.clone(),
        };
        let mut out = String::new();
        for row in &self.rows {
            for (index, cell) in row.iter().enumerate() {
                // What comes from images and containers must not steer the terminal.
                let cut = if width.is_some() { cut(&printable(cell), widths[index]) } else { cut(cell, widths[index]) };
                out.push_str(&cut);
                if index + 1 < row.len() {
                    let cell_width = (widths[index] + PADDING).max(if self.wide { WIDE } else { MINIMUM });
                    out.extend(std::iter::repeat_n(' ', cell_width - cut.width()));
                }
            }
            out.push('\n');
        }
        out
    }

    /// A column is never cut below its header, nor below what short words need.
    fn floors(&self, columns: usize) -> Vec<usize> {
        let header = self.rows.first();
        (0..columns)
            .map(|column| header.and_then(|row| row.get(column)).map_or(0, |cell| cell.width()).max(8))
            .collect()
    }
}

/// Takes from the widest column until the line fits or all are at their floor.
fn fit(natural: &[usize], floors: &[usize], width: usize) -> Vec<usize> {
    let mut widths = natural.to_vec();
    let total = |widths: &[usize]| -> usize {
        let padded = widths.len().saturating_sub(1);
        widths[..padded].iter().map(|wide| (wide + PADDING).max(MINIMUM)).sum::<usize>()
            + widths.last().copied().unwrap_or(0)
    };
    while total(&widths) > width {
        let widest = (0..widths.len()).filter(|&column| widths[column] > floors[column]).max_by_key(|&c| widths[c]);
        let Some(widest) = widest else { break };
        widths[widest] -= 1;
    }
    widths
}

/// The text with a `?` for each character that would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// The text, or as much of it as fits before a `…`.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut used = 0;
    let mut out = String::new();
    for character in text.chars() {
        let wide = character.width().unwrap_or(0);
        if used + wide > width - 1 {
            break;
        }
        used += wide;
        out.push(character);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_docker_s() {
        let mut table = Table::new(["CONTAINER ID", "IMAGE", "NAMES"]);
        table.row(["4c01db0b339c", "ubuntu:22.04", "webapp"]);
        assert_eq!(table.render(None), "CONTAINER ID   IMAGE          NAMES\n4c01db0b339c   ubuntu:22.04   webapp\n");
        assert_eq!(Table::new(["ID", "X"]).render(None), "ID        X\n");
    }

    #[test]
    fn wide_characters_count_double() {
        let mut table = Table::new(["NAME", "X"]);
        table.row(["日本語日本語", "y"]);
        assert_eq!(table.render(None), "NAME           X\n日本語日本語   y\n");
    }

    #[test]
    fn a_narrow_terminal_cuts_the_widest_column() {
        let mut table = Table::new(["NAME", "COMMAND"]);
        table.row(["a", "a very long command line that goes on and on"]);
        let text = table.render(Some(40));
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        assert!(text.contains('…'));
        assert!(table.render(Some(5)).contains("a very …"), "never below the floor");
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let mut table = Table::new(["NAME"]);
        table.row(["a\x1b[2Jb\nc"]);
        assert_eq!(table.render(Some(80)), "NAME\na?[2Jb?c\n");
        assert_eq!(table.render(None), "NAME\na\x1b[2Jb\nc\n");
    }

    #[test]
    fn cutting_keeps_whole_characters() {
        assert_eq!(cut("hello", 5), "hello");
        assert_eq!(cut("hello!", 5), "hell…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("x", 0), "");
    }
}
