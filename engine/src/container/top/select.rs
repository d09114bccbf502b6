//! Which of a container's processes are shown.

use super::columns::Whose;
use super::process::Process;

/// What picks processes. Nothing picks all: that they are the container's is choice enough.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Select {
    /// `-e`, `-A` and `ax`
    pub(super) all: bool,
    /// The letters that pick by terminal or leader. Like with Docker they count beside lists only.
    pub(super) simple: Vec<Simple>,
    pub(super) lists: Vec<List>,
    /// `-N`: all others.
    pub(super) negated: bool,
    /// `r`: what runs.
    pub(super) running: bool,
}

/// A letter that picks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simple {
    /// `-a`: what has a terminal and leads no session.
    Followers,
    /// `-d`: what leads no session.
    NoLeaders,
    /// `a`: what has a terminal.
    Terminal,
    /// `x`: what is the engine's user's.
    Own,
    /// `g`, which changes nothing on Linux.
    Groups,
}

/// Things of which one must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum List {
    Pids(Vec<u32>),
    Parents(Vec<u32>),
    Groups(Vec<u32>),
    Sessions(Vec<u32>),
    UserIds(Whose, Vec<u32>),
    GroupIds(Whose, Vec<u32>),
    Terminals(Vec<String>),
    Names(Vec<String>),
}

impl Select {
    /// Takes the letters together.
    ///
    /// # Errors
    /// When they contradict each other.
    pub(super) fn settle(&mut self) -> Result<(), &'static str> {
        use Simple as S;
        let has = |simple: S| self.simple.contains(&simple);
        if (has(S::Followers) || has(S::NoLeaders)) && (has(S::Terminal) || has(S::Own) || has(S::Groups)) {
            return Err("the options that pick processes exclude each other");
        }
        if has(S::Terminal) && has(S::Own) {
            self.all = true;
        }
        Ok(())
    }

    pub(super) fn accepts(&self, process: &Process) -> bool {
        let listed = || self.lists.iter().any(|list| list.has(process));
        let accepted = self.all || self.lists.is_empty() || listed() || self.simple(process);
        (accepted && (!self.running || matches!(process.state(), 'R' | 'D'))) != self.negated
    }

    fn simple(&self, process: &Process) -> bool {
        let (terminal, leads) = (process.number(7) != 0, process.number(6) == i64::from(process.pid));
        let has = |simple| self.simple.contains(&simple);
        if has(Simple::NoLeaders) {
            return !leads;
        }
        (has(Simple::Followers) && terminal && !leads)
            || (has(Simple::Terminal) && terminal)
            || (has(Simple::Own) && process.uid(Whose::Effective) == rustix::process::geteuid().as_raw())
    }
}

impl List {
    fn has(&self, process: &Process) -> bool {
        let number = |list: &[u32], field| list.iter().any(|one| i64::from(*one) == process.number(field));
        match self {
            Self::Pids(list) => list.contains(&process.pid),
            Self::Parents(list) => number(list, 4),
            Self::Groups(list) => number(list, 5),
            Self::Sessions(list) => number(list, 6),
            Self::UserIds(whose, list) => list.contains(&process.uid(*whose)),
            Self::GroupIds(whose, list) => list.contains(&process.gid(*whose)),
            Self::Terminals(list) => list.contains(&super::names::terminal(process.number(7))),
            Self::Names(list) => list.iter().any(|name| is_called(process.name(), name)),
        }
    }
}

/// The kernel keeps 15 bytes of a name.
fn is_called(name: &str, wanted: &str) -> bool {
    name == wanted || (name.len() == 15 && wanted.starts_with(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn process() -> Process {
        // Process 70 of group 60 and session 50, child of 40, at pts/3, user 7 and group 8 for files.
        let status = "Name:\tcat\nUid:\t1\t2\t3\t7\nGid:\t4\t5\t6\t8\n";
        Process::made(70, b"70 (cat) S 40 60 50 34819 60 0 0 0 0 0", status).unwrap()
    }

    #[test]
    fn a_process_is_picked_by_what_it_is() {
        let fits = [
            List::Pids(vec![1, 70]),
            List::Parents(vec![40]),
            List::Groups(vec![60]),
            List::Sessions(vec![50]),
            List::UserIds(Whose::Real, vec![1]),
            List::UserIds(Whose::Effective, vec![2]),
            List::GroupIds(Whose::Files, vec![8]),
            List::Terminals(vec!["pts/3".to_owned()]),
            List::Names(vec!["dog".to_owned(), "cat".to_owned()]),
        ];
        let other = List::Pids(vec![7]);
        for list in fits {
            let one = |negated, lists: Vec<List>| Select { negated, lists, ..Select::default() }.accepts(&process());
            assert!(one(false, vec![list.clone()]), "{list:?}");
            assert!(one(false, vec![other.clone(), list.clone()]), "{list:?}");
            assert!(!one(true, vec![list.clone()]), "{list:?}");
            assert!(!one(false, vec![other.clone()]) && one(true, vec![other.clone()]));
        }
    }

    #[test]
    fn letters_pick_beside_lists_only() {
        let select = |simple: &[Simple], pids: &[u32]| {
            let lists = if pids.is_empty() { vec![] } else { vec![List::Pids(pids.to_vec())] };
            let mut select = Select { simple: simple.to_vec(), lists, ..Select::default() };
            select.settle().map(|()| select.accepts(&process()))
        };
        assert_eq!(select(&[Simple::Own], &[]), Ok(true));
        assert_eq!(select(&[Simple::Terminal], &[7]), Ok(true));
        assert_eq!(select(&[Simple::Followers], &[7]), Ok(true));
        assert_eq!(select(&[Simple::Groups], &[7]), Ok(false));
        assert_eq!(select(&[Simple::Own, Simple::Terminal], &[7]), Ok(true));
        assert!(select(&[Simple::Own, Simple::NoLeaders], &[]).is_err());
        assert!(!Select { running: true, ..Select::default() }.accepts(&process()));
    }

    #[test]
    fn a_name_that_the_kernel_has_cut_is_found_by_all_of_it() {
        assert!(is_called("cat", "cat") && !is_called("cat", "cats"));
        assert!(is_called("fifteen_letters", "fifteen_letters_and_more") && !is_called("fifteen_letters", "fifteen"));
    }
}
