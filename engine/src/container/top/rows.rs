//! Processes in their order, which may be that of a tree.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::options::{Shown, Sort, Tree};
use super::values::Key;

/// No tree is drawn deeper: a process may have as many ancestors as it likes.
const DEEPEST: usize = 64;

/// A process with what is shown of it.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) pid: u32,
    pub(super) parent: i64,
    /// When it began.
    pub(super) start: i64,
    /// What it is sorted by.
    pub(super) keys: Vec<Key>,
    pub(super) cells: Vec<String>,
    /// Its threads, where they are listed below it.
    pub(super) below: Vec<Vec<String>>,
}

/// The cells of all rows, sorted, with the tree drawn in front of commands, and no wider than wanted.
pub(super) fn arrange(mut rows: Vec<Row>, sort: &[Sort], tree: Option<Tree>, columns: &[Shown]) -> Vec<Vec<String>> {
    rows.sort_by(|one, other| {
        let compared = sort.iter().zip(one.keys.iter().zip(&other.keys)).map(|(sort, (one, other))| {
            let order = one.cmp(other);
            if sort.descending { order.reverse() } else { order }
        });
        let by_start = if tree.is_some() { one.start.cmp(&other.start) } else { Ordering::Equal };
        compared.fold(Ordering::Equal, Ordering::then).then(by_start)
    });
    let rows = match tree {
        Some(tree) => planted(rows, tree, columns),
        None => rows,
    };
    let mut cells: Vec<Vec<String>> =
        rows.into_iter().flat_map(|row| std::iter::once(row.cells).chain(row.below)).collect();
    for row in &mut cells {
        // The last column has all the room there is.
        for (cell, column) in row.iter_mut().zip(&columns[..columns.len().saturating_sub(1)]) {
            cut(cell, column);
        }
    }
    cells
}

/// Puts children behind their parents.
fn planted(rows: Vec<Row>, tree: Tree, columns: &[Shown]) -> Vec<Row> {
    let pids: BTreeSet<i64> = rows.iter().map(|row| i64::from(row.pid)).collect();
    let mut children: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let own = i64::from(row.pid) == row.parent;
        if pids.contains(&row.parent) && !own {
            children.entry(row.parent).or_default().push(index);
        } else {
            roots.push(index);
        }
    }
    let mut rows: Vec<Option<Row>> = rows.into_iter().map(Some).collect();
    let mut planted = Vec::new();
    // What comes next is last: a row, and for each ancestor and itself whether more of its generation follow.
    let mut waiting: Vec<(usize, Vec<bool>)> = roots.into_iter().rev().map(|root| (root, Vec::new())).collect();
    // Processes are looked at one after the other, so that two may seem to be each other's child.
    let mut left = 0;
    loop {
        while let Some((index, line)) = waiting.pop() {
            let Some(mut row) = rows[index].take() else { continue };
            for (cell, column) in row.cells.iter_mut().zip(columns) {
                if column.column.is_command() {
                    cell.insert_str(0, &tree.drawn(&line));
                }
            }
            let below = children.remove(&i64::from(row.pid)).unwrap_or_default();
            let last = below.last().copied();
            for child in below.into_iter().rev() {
                let mut line = line.clone();
                if line.len() < DEEPEST {
                    line.push(Some(child) != last);
                }
                waiting.push((child, line));
            }
            planted.push(row);
        }
        match rows[left..].iter().position(Option::is_some) {
            Some(next) => {
                left += next;
                waiting.push((left, Vec::new()));
            }
            None => return planted,
        }
    }
}

impl Tree {
    /// What stands before a command; for each generation whether more of it follow.
    fn drawn(self, line: &[bool]) -> String {
        let Some((_, above)) = line.split_last() else { return String::new() };
        match self {
            Self::Indented => "  ".repeat(line.len()),
            Self::Drawn => {
                above.iter().map(|more| if *more { " |  " } else { "    " }).chain(std::iter::once(" \\_ ")).collect()
            }
        }
    }
}

fn cut(cell: &mut String, column: &Shown) {
    let Some(width) = column.width.filter(|_| column.column.is_text()) else { return };
    if cell.chars().count() <= width {
        return;
    }
    let account = column.column.is_account();
    let kept = if account { width - 1 } else { width };
    let end = cell.char_indices().nth(kept).map_or(cell.len(), |(at, _)| at);
    cell.truncate(end);
    if account {
        cell.push('+');
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Column, Whose};
    use super::*;

    fn shown(column: Column, width: Option<usize>) -> Shown {
        Shown { column, title: String::new(), width }
    }

    fn row(pid: u32, parent: i64, start: i64, key: i64) -> Row {
        let cells = vec![pid.to_string(), format!("c{pid}")];
        Row { pid, parent, start, keys: vec![Key::Number(key)], cells, below: Vec::new() }
    }

    fn commands(rows: Vec<Row>, sort: &[Sort], tree: Option<Tree>) -> Vec<String> {
        let columns = [shown(Column::Pid, None), shown(Column::Command, None)];
        arrange(rows, sort, tree, &columns).into_iter().map(|mut cells| cells.remove(1)).collect()
    }

    const UP: Sort = Sort { column: Column::Resident, descending: false };
    const DOWN: Sort = Sort { column: Column::Resident, descending: true };

    #[test]
    fn rows_are_sorted_and_equal_ones_stay() {
        let rows = || vec![row(3, 0, 0, 5), row(1, 0, 0, 7), row(2, 0, 0, 5)];
        assert_eq!(commands(rows(), &[], None), ["c3", "c1", "c2"]);
        assert_eq!(commands(rows(), &[UP], None), ["c3", "c2", "c1"]);
        assert_eq!(commands(rows(), &[DOWN], None), ["c1", "c3", "c2"]);
    }

    #[test]
    fn threads_stay_below_their_process() {
        let below = vec![vec!["-".to_owned(), "t1".to_owned()]];
        let rows = vec![Row { below, ..row(1, 0, 0, 1) }, row(2, 0, 0, 2)];
        assert_eq!(commands(rows, &[DOWN], None), ["c2", "c1", "t1"]);
    }

    #[test]
    fn a_tree_has_children_behind_their_parents() {
        let rows = || {
            vec![row(1, 0, 1, 0), row(2, 1, 2, 0), row(5, 1, 9, 1), row(3, 2, 4, 0), row(4, 2, 3, 0), row(9, 7, 0, 0)]
        };
        let drawn = ["c9", "c1", " \\_ c2", " |   \\_ c4", " |   \\_ c3", " \\_ c5"];
        assert_eq!(commands(rows(), &[], Some(Tree::Drawn)), drawn);
        assert_eq!(commands(rows(), &[], Some(Tree::Indented)), ["c9", "c1", "  c2", "    c4", "    c3", "  c5"]);
        // A key counts among brothers, before when they began.
        assert_eq!(commands(rows(), &[DOWN], Some(Tree::Indented)), ["c9", "c1", "  c5", "  c2", "    c4", "    c3"]);
    }

    #[test]
    fn no_process_is_lost_to_a_circle_or_a_long_line() {
        assert_eq!(
            commands(vec![row(1, 2, 0, 0), row(2, 1, 1, 0), row(3, 3, 2, 0)], &[], Some(Tree::Indented)).len(),
            3
        );
        let line = commands((1..=1000).map(|pid| row(pid, i64::from(pid) - 1, 0, 0)).collect(), &[], Some(Tree::Drawn));
        assert_eq!(line.len(), 1000);
        assert!(line.iter().all(|command| command.len() < 300));
    }

    #[test]
    fn texts_are_cut_to_a_width_but_for_the_last() {
        let columns = [
            shown(Column::User(Whose::Effective), Some(3)),
            shown(Column::Command, Some(3)),
            shown(Column::Pid, Some(1)),
            shown(Column::Command, Some(3)),
        ];
        let cells = ["ann", "abcd", "1234", "abcd"].map(str::to_owned).to_vec();
        let rows = vec![Row { cells, ..Row::default() }, Row { cells: vec!["anna".to_owned()], ..Row::default() }];
        assert_eq!(arrange(rows, &[], None, &columns), [vec!["ann", "abc", "1234", "abcd"], vec!["an+"]]);
    }
}
