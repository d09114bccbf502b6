//! The arguments of `ps`: letters of System V behind a dash, letters of BSD without one, long words behind two.
//!
//! What they mean is as in `ps(1)` of procps-ng; what needs a screen, or lists no processes, is refused by its name.

use super::Error;
use super::columns::{Column, Whose, named};
use super::formats::{Format, Layout};
use super::names::{Names, terminal_name};
use super::select::{List, Select, Simple};
use super::values::Style;

/// What is asked for.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) columns: Vec<Shown>,
    pub(super) select: Select,
    pub(super) sort: Vec<Sort>,
    pub(super) tree: Option<Tree>,
    pub(super) threads: Threads,
    pub(super) style: Style,
}

/// A column of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) column: Column,
    pub(super) title: String,
    /// How many characters a text may have.
    pub(super) width: Option<usize>,
}

/// What the list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) column: Column,
    pub(super) descending: bool,
}

/// How it is shown who is whose child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    /// `f` and `--forest`
    Drawn,
    /// `-H`
    Indented,
}

/// Whether threads are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threads {
    Hidden,
    /// A row for each, in place of its process.
    Each,
    /// Rows behind that of their process.
    Below,
}

/// Reads arguments; none are `-ef`.
///
/// # Errors
/// When there is no such option, or it is not for here.
pub(super) fn parse(arguments: &str, names: &Names) -> Result<Options, Error> {
    let words: Vec<&str> = arguments.split_ascii_whitespace().collect();
    let words = if words.is_empty() { vec!["-ef"] } else { words };
    let read = |bsd: bool| {
        let mut reader = Reader { words: &words, names, dashes_are_bsd: bsd, ..Reader::new(names) };
        reader.all().and_then(|()| reader.finish())
    };
    match read(false) {
        // What System V has no sense for may be meant the BSD way, dash or not: `-aux`.
        Err(Error::Invalid(why)) if words.iter().all(|word| word.starts_with('-')) => {
            read(true).map_err(|_| Error::Invalid(why))
        }
        options => options,
    }
}

struct Reader<'a> {
    words: &'a [&'a str],
    at: usize,
    names: &'a Names,
    dashes_are_bsd: bool,
    layout: Layout,
    select: Select,
    columns: Vec<Shown>,
    /// Whether columns were named: formats have none of it then.
    named: bool,
    sort: Vec<Sort>,
    tree: Option<Tree>,
    style: Style,
    headings: bool,
    /// `H`
    each: bool,
    /// `m` and `-m`
    below: Vec<bool>,
}

type Read = Result<(), Error>;

impl<'a> Reader<'a> {
    fn new(names: &'a Names) -> Self {
        Self {
            words: &[],
            at: 0,
            names,
            dashes_are_bsd: false,
            layout: Layout::default(),
            select: Select::default(),
            columns: Vec::new(),
            named: false,
            sort: Vec::new(),
            tree: None,
            style: Style::default(),
            headings: true,
            each: false,
            below: Vec::new(),
        }
    }

    fn all(&mut self) -> Read {
        while let Some(word) = self.next() {
            let first = |text: &str| text.chars().next().unwrap_or(' ');
            match (word.strip_prefix("--"), word.strip_prefix('-')) {
                (Some(long), _) if first(long).is_ascii_alphabetic() => self.long(word, long)?,
                (None, Some(letters)) if first(letters).is_ascii_alphabetic() && !self.dashes_are_bsd => {
                    self.system_v(letters)?;
                }
                (None, Some(letters)) if first(letters).is_ascii_alphabetic() => self.bsd(letters, "-")?,
                (None, Some(group)) if first(group).is_ascii_digit() => {
                    self.select.lists.push(List::Groups(numbers(word, group)?));
                    self.layout.bsd = true;
                }
                (None, None) if first(word).is_ascii_alphabetic() => self.bsd(word, "")?,
                (None, None) if first(word).is_ascii_digit() => {
                    self.select.lists.push(List::Pids(numbers(word, word)?));
                    self.layout.bsd = true;
                }
                (None, None) if word.starts_with('+') => {
                    self.select.lists.push(List::Sessions(numbers(word, &word[1..])?));
                    self.layout.bsd = true;
                }
                _ => return Err(unknown(word)),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    /// What belongs to an option: the rest of its word, or else the next word.
    fn value(&mut self, option: &str, rest: &'a str) -> Result<&'a str, Error> {
        if !rest.is_empty() {
            return Ok(rest);
        }
        self.next().ok_or_else(|| Error::invalid(format!("ps: option {option} needs a value")))
    }

    fn system_v(&mut self, letters: &'a str) -> Read {
        for (at, letter) in letters.char_indices() {
            let option = format!("-{letter}");
            let rest = &letters[at + letter.len_utf8()..];
            match letter {
                'A' | 'e' => self.select.all = true,
                'F' => {
                    self.layout.add(Format::Full);
                    self.layout.extra = true;
                }
                'f' => self.layout.add(Format::Full),
                'l' => self.layout.add(Format::Long),
                'j' => self.layout.jobs = true,
                'y' => self.layout.resident = true,
                'c' => self.layout.classes = true,
                'P' => self.layout.processor = true,
                'M' | 'Z' => self.layout.label = true,
                'L' => self.layout.lwp = true,
                'T' => self.layout.spid = true,
                'm' => self.below.push(false),
                'H' => self.tree = Some(Tree::Indented),
                'N' => self.select.negated = true,
                'a' => self.select.simple.push(Simple::Followers),
                'd' => self.select.simple.push(Simple::NoLeaders),
                // Rows are as wide as they need to be.
                'w' => {}
                'C' | 'G' | 'U' | 'g' | 'p' | 'q' | 's' | 't' | 'u' => {
                    let value = self.value(&option, rest)?;
                    return self.list(&option, letter, value);
                }
                'o' | 'O' => {
                    let value = self.value(&option, rest)?;
                    return if letter == 'o' {
                        self.format(value)
                    } else {
                        self.wrapped(value, "state,tname,time,command")
                    };
                }
                'V' => return Err(elsewhere(&option)),
                _ => return Err(unknown(&option)),
            }
        }
        Ok(())
    }

    fn bsd(&mut self, letters: &'a str, dash: &str) -> Read {
        self.layout.bsd = true;
        for (at, letter) in letters.char_indices() {
            let option = format!("{dash}{letter}");
            let rest = &letters[at + letter.len_utf8()..];
            match letter {
                'a' => self.select.simple.push(Simple::Terminal),
                'x' => self.select.simple.push(Simple::Own),
                'g' => self.select.simple.push(Simple::Groups),
                'r' => self.select.running = true,
                'j' => self.layout.add(Format::BsdJobs),
                'l' => self.layout.add(Format::BsdLong),
                's' => self.layout.add(Format::BsdSignals),
                'u' => self.layout.add(Format::BsdUser),
                'v' => self.layout.add(Format::BsdMemory),
                'X' => self.layout.add(Format::Registers),
                'Z' => self.layout.label = true,
                'm' if self.dashes_are_bsd => self.layout.add(Format::OldMemory),
                'm' | 'M' => self.below.push(true),
                'H' => self.each = true,
                'f' => self.tree = Some(Tree::Drawn),
                'c' => self.style.short = true,
                'e' => self.style.environment = true,
                'S' => self.style.children = true,
                'n' => self.style.numeric = true,
                'h' => self.headings = false,
                'w' => {}
                'U' | 'p' | 'q' | 't' => {
                    let value = self.value(&option, rest)?;
                    return self.list(&option, if letter == 'U' { 'u' } else { letter }, value);
                }
                'o' => {
                    let value = self.value(&option, rest)?;
                    return self.format(value);
                }
                'O' => {
                    let value = self.value(&option, rest)?;
                    return self.short_keys(value);
                }
                'k' => {
                    let value = self.value(&option, rest)?;
                    return self.keys(value);
                }
                '0'..='9' => {
                    self.select.lists.push(List::Pids(numbers(&option, &letters[at..])?));
                    return Ok(());
                }
                'L' | 'V' => return Err(elsewhere(&option)),
                'T' => {
                    return Err(Error::unsupported(format!(
                        "ps: option {option}: the engine has no terminal of its own"
                    )));
                }
                _ => return Err(unknown(&option)),
            }
        }
        Ok(())
    }

    fn long(&mut self, word: &'a str, long: &'a str) -> Read {
        let end = long.find(['=', ':']).unwrap_or(long.len());
        let (name, given) = (&long[..end], long.get(end + 1..));
        let option = &word[..end + 2];
        let value = |reader: &mut Self| match given {
            Some("") => Err(Error::invalid(format!("ps: option {option} needs a value"))),
            given => reader.value(option, given.unwrap_or_default()),
        };
        let letter = match name {
            "Group" => 'G',
            "User" => 'U',
            "group" => 'E',
            "user" => 'u',
            "pid" | "quick-pid" => 'p',
            "ppid" => 'P',
            "sid" => 's',
            "tty" => 't',
            "format" => {
                let value = value(self)?;
                return self.format(value);
            }
            "sort" => {
                let value = value(self)?;
                return self.keys(value);
            }
            _ => {
                if let Some(given) = given {
                    return Err(Error::invalid(format!("ps: option {option} takes no value, such as {given:?}")));
                }
                match name {
                    "deselect" => self.select.negated = true,
                    "forest" => self.tree = Some(Tree::Drawn),
                    "cumulative" => self.style.children = true,
                    "context" => self.layout.add(Format::Context),
                    "no-header" | "no-headers" | "no-heading" | "no-headings" | "noheader" | "noheaders"
                    | "noheading" | "noheadings" => self.headings = false,
                    _ => return Err(not_for_here(name, option)),
                }
                return Ok(());
            }
        };
        let value = value(self)?;
        self.list(option, letter, value)
    }

    /// Things that processes are picked by.
    fn list(&mut self, option: &str, letter: char, value: &str) -> Read {
        let none = |what: &str, item: &str| Error::invalid(format!("ps: option {option}: there is no {what} {item:?}"));
        let each = |what: &str, id: &dyn Fn(&str) -> Option<u32>| {
            let ids = items(option, value)?.into_iter().map(|item| id(item).ok_or_else(|| none(what, item)));
            ids.collect::<Result<Vec<u32>, Error>>()
        };
        let (users, groups) = (|name: &str| self.names.user_id(name), |name: &str| self.names.group_id(name));
        let list = match letter {
            'p' | 'q' => List::Pids(numbers(option, value)?),
            'P' => List::Parents(numbers(option, value)?),
            's' => List::Sessions(numbers(option, value)?),
            'U' => List::UserIds(Whose::Real, each("user", &users)?),
            'u' => List::UserIds(Whose::Effective, each("user", &users)?),
            'G' => List::GroupIds(Whose::Real, each("group", &groups)?),
            'E' => List::GroupIds(Whose::Effective, each("group", &groups)?),
            // Sessions, or groups when one of them has a name.
            'g' => match numbers(option, value) {
                Ok(sessions) => List::Sessions(sessions),
                Err(_) => List::GroupIds(Whose::Effective, each("group", &groups)?),
            },
            't' => {
                let names = items(option, value)?.into_iter();
                List::Terminals(
                    names
                        .map(|item| terminal_name(item).ok_or_else(|| none("terminal", item)))
                        .collect::<Result<_, _>>()?,
                )
            }
            _ => List::Names(items(option, value)?.into_iter().map(str::to_owned).collect()),
        };
        self.select.lists.push(list);
        Ok(())
    }

    /// Names of columns, each with a width behind `:` and a title behind `=` if it is to have another.
    fn format(&mut self, value: &str) -> Read {
        only_one_pid(value)?;
        self.named = true;
        let aix = value.starts_with('%') && named(value.split([',', ':', '=']).next().unwrap_or_default()).is_none();
        let columns = if aix { codes(value)? } else { columns(value)? };
        self.columns.extend(columns);
        Ok(())
    }

    /// Names of columns between others.
    fn wrapped(&mut self, value: &str, behind: &str) -> Read {
        if self.named {
            return Err(Error::invalid("ps: option -O goes before other columns"));
        }
        self.format("pid")?;
        self.format(value)?;
        self.format(behind)
    }

    /// Names of columns to sort by, each with `-` before it if what is most comes first.
    fn keys(&mut self, value: &str) -> Read {
        if !self.sort.is_empty() {
            return Err(Error::invalid("ps: the list can be sorted only once"));
        }
        for item in items("--sort", value)? {
            let (descending, name) = match item.split_at_checked(1) {
                Some(("-", name)) => (true, name),
                Some(("+", name)) => (false, name),
                _ => (false, item),
            };
            let (column, _) = named(name).ok_or_else(|| Error::invalid(format!("ps: cannot sort by {name:?}")))?;
            self.sort.push(Sort { column, descending });
        }
        Ok(())
    }

    /// `O`: letters to sort by, or else names of columns between others.
    fn short_keys(&mut self, value: &str) -> Read {
        let mut sort = Vec::new();
        let mut descending = false;
        for (at, letter) in value.char_indices() {
            // A letter that comes twice is no key.
            let again = value[..at].contains(letter);
            match (letter, LETTERS.iter().find(|(known, _)| *known == letter)) {
                ('-' | '+', _) => descending = letter == '-',
                (_, Some((_, name))) if !again => {
                    sort.extend(named(name).map(|(column, _)| Sort { column, descending }));
                    descending = false;
                }
                _ => return self.wrapped(value, "state,tname,cputime,comm"),
            }
        }
        if !self.sort.is_empty() || value.ends_with(['-', '+']) {
            return Err(Error::invalid(format!("ps: cannot sort by {value:?}")));
        }
        self.sort = sort;
        Ok(())
    }

    fn finish(mut self) -> Result<Options, Error> {
        let wrong = |why: &str| Error::invalid(format!("ps: {why}"));
        self.select.settle().map_err(wrong)?;
        let threads = self.threads().map_err(wrong)?;
        if self.named && (self.layout.is_given() || (self.row_of_each() && threads != Threads::Each)) {
            return Err(wrong("columns that are named exclude other formats"));
        }
        if !self.named {
            self.columns = columns(&self.layout.names().map_err(wrong)?.join(","))?;
        }
        // Whoever reads the list looks for it, as Docker's daemon does.
        if !self.headings || !self.columns.iter().any(|column| column.title == "PID") {
            return Err(Error::invalid("Couldn't find PID field in ps output"));
        }
        let Self { columns, select, sort, tree, style, .. } = self;
        Ok(Options { columns, select, sort, tree, threads, style })
    }

    fn row_of_each(&self) -> bool {
        self.layout.lwp || self.layout.spid
    }

    fn threads(&self) -> Result<Threads, &'static str> {
        let below = !self.below.is_empty();
        if (self.row_of_each() || self.each || below) && self.tree.is_some() {
            return Err("threads cannot be shown in a tree");
        }
        if self.each && below || self.below.contains(&true) && self.below.contains(&false) {
            return Err("the options that show threads exclude each other");
        }
        if self.layout.lwp && self.layout.spid {
            return Err("-L and -T exclude each other");
        }
        Ok(match (below, self.each || self.row_of_each()) {
            (true, _) => Threads::Below,
            (false, true) => Threads::Each,
            (false, false) => Threads::Hidden,
        })
    }
}

/// Letters that `O` sorts by.
const LETTERS: [(char, &str); 19] = [
    ('C', "pcpu"),
    ('G', "tpgid"),
    ('M', "maj_flt"),
    ('P', "ppid"),
    ('R', "rss"),
    ('T', "start_time"),
    ('U', "uid"),
    ('c', "cmd"),
    ('f', "flags"),
    ('g', "pgrp"),
    ('m', "min_flt"),
    ('o', "session"),
    ('p', "pid"),
    ('r', "rss"),
    ('s', "size"),
    ('t', "tty"),
    ('u', "user"),
    ('v', "vsize"),
    ('y', "priority"),
];

/// Letters behind `%`, with the title of each.
const CODES: [(char, &str, &str); 15] = [
    ('C', "pcpu", "%CPU"),
    ('G', "group", "GROUP"),
    ('P', "ppid", "PPID"),
    ('U', "user", "USER"),
    ('a', "args", "COMMAND"),
    ('c', "comm", "COMMAND"),
    ('g', "rgroup", "RGROUP"),
    ('n', "nice", "NI"),
    ('p', "pid", "PID"),
    ('r', "pgid", "PGID"),
    ('t', "etime", "ELAPSED"),
    ('u', "ruser", "RUSER"),
    ('x', "time", "TIME"),
    ('y', "tty", "TTY"),
    ('z', "vsz", "VSZ"),
];

fn columns(value: &str) -> Result<Vec<Shown>, Error> {
    let column = |item: &str| {
        let (name, title) = item.split_once('=').map_or((item, None), |(name, title)| (name, Some(title)));
        let (name, width) = name.split_once(':').map_or((name, None), |(name, width)| (name, Some(width)));
        let (column, known) =
            named(name).ok_or_else(|| Error::invalid(format!("ps: unknown user-defined format specifier {name:?}")))?;
        let width = match width.map(|width| width.parse::<usize>().ok().filter(|width| *width > 0)) {
            Some(None) => return Err(Error::invalid(format!("ps: the width of column {name:?} is no number"))),
            width => width.flatten(),
        };
        Ok(Shown { column, title: title.unwrap_or(known).to_owned(), width })
    };
    items("-o", value)?.into_iter().map(column).collect()
}

fn codes(value: &str) -> Result<Vec<Shown>, Error> {
    let wrong = || Error::invalid(format!("ps: unknown format {value:?}"));
    let column = |code: &str| {
        let (_, name, title) = CODES.iter().find(|(letter, ..)| code.chars().eq([*letter])).ok_or_else(wrong)?;
        Ok(Shown { column: named(name).ok_or_else(wrong)?.0, title: (*title).to_owned(), width: None })
    };
    value.split('%').skip(1).map(column).collect()
}

/// No other column may be called like that of the process, by which rows are told from each other.
fn only_one_pid(format: &str) -> Read {
    for (at, _) in format.match_indices("=PID") {
        let (name, title) = (&format[..at], &format[at + 1..]);
        if name.rsplit(',').next() != Some("pid") {
            return Err(Error::invalid(format!("specifying \"{name}={title}\" is not allowed")));
        }
    }
    Ok(())
}

/// The parts of a list, of which the last may be empty.
fn items<'a>(option: &str, value: &'a str) -> Result<Vec<&'a str>, Error> {
    let items: Vec<&str> = value.strip_suffix(',').unwrap_or(value).split(',').collect();
    if items.contains(&"") {
        return Err(Error::invalid(format!("ps: option {option}: {value:?} is no list")));
    }
    Ok(items)
}

fn numbers(option: &str, value: &str) -> Result<Vec<u32>, Error> {
    let number = |item: &str| {
        let number = item.parse().ok().filter(|number| i32::try_from(*number).is_ok());
        number.ok_or_else(|| Error::invalid(format!("ps: option {option}: {item:?} is no number of a process")))
    };
    items(option, value)?.into_iter().map(number).collect()
}

fn unknown(option: &str) -> Error {
    Error::invalid(format!("ps: unknown option {option}"))
}

/// Of options that make `ps` write something else.
fn elsewhere(option: &str) -> Error {
    Error::unsupported(format!("ps: option {option} lists no processes"))
}

/// Why a long option is refused.
fn not_for_here(name: &str, option: &str) -> Error {
    match name {
        "cols" | "columns" | "width" | "rows" | "lines" | "header" | "headers" | "heading" | "headings" => {
            Error::unsupported(format!("ps: option {option}: there is no screen that rows are cut for"))
        }
        "delimiter" | "date-format" | "signames" => Error::unsupported(format!("ps: option {option} is not supported")),
        "help" | "info" | "version" => elsewhere(option),
        _ => unknown(option),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(arguments: &str) -> Result<Options, Error> {
        parse(arguments, &Names::new("root:x:0:0::/:\nann:x:7:7::/:", "staff:x:50:"))
    }

    fn titles(arguments: &str) -> String {
        let titles: Vec<String> = read(arguments).unwrap().columns.into_iter().map(|column| column.title).collect();
        titles.join(" ")
    }

    #[test]
    fn formats_have_the_columns_of_ps() {
        const USER: &str = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        let cases = [
            ("", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-e -f", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ww -ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-H -ef", "UID PID PPID C STIME TTY TIME CMD"),
            ("-ef ww", "UID PID PPID C STIME TTY STAT TIME CMD"),
            ("-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
            ("-el", "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD"),
            ("-ely", "S UID PID PPID C PRI NI RSS SZ WCHAN TTY TIME CMD"),
            ("-elf", "F S UID PID PPID C PRI NI ADDR SZ WCHAN STIME TTY TIME CMD"),
            ("-eLf", "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
            ("-eTf", "UID PID SPID PPID C STIME TTY TIME CMD"),
            ("-eL", "PID LWP TTY TIME CMD"),
            ("-ej", "PID PGID SID TTY TIME CMD"),
            ("-ejf", "UID PID PPID PGID SID C STIME TTY TIME CMD"),
            ("-ecl", "F S UID PID PPID CLS PRI ADDR SZ WCHAN TTY TIME CMD"),
            ("-eP", "PID PSR TTY TIME CMD"),
            ("-eM", "LABEL PID TTY TIME CMD"),
            ("-e", "PID TTY TIME CMD"),
            ("ax", "PID TTY STAT TIME COMMAND"),
            ("x", "PID TTY STAT TIME COMMAND"),
            ("axf", "PID TTY STAT TIME COMMAND"),
            ("u", USER),
            ("aux", USER),
            ("-aux", USER),
            ("aux ww", USER),
            ("auxww --sort=-%cpu", USER),
            ("-aux --sort -rss", USER),
            ("faux", USER),
            ("auxm", USER),
            ("auxH", USER),
            ("aux -L", "USER PID LWP %CPU NLWP %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("aux -T", "USER PID SPID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
            ("axZ", "LABEL PID TTY STAT TIME COMMAND"),
            ("axj", "PPID PID PGID SID TTY TPGID STAT UID TIME COMMAND"),
            ("axl", "F UID PID PPID PRI NI VSZ RSS WCHAN STAT TTY TIME COMMAND"),
            ("axs", "UID PID PENDING BLOCKED IGNORED CAUGHT STAT TTY TIME COMMAND"),
            ("axv", "PID TTY STAT TIME MAJFL TRS DRS RSS %MEM COMMAND"),
            ("axX", "PID STACKP ESP EIP TMOUT ALARM STAT TTY TIME COMMAND"),
            ("-axm", "PID TTY MAJFLT MINFLT TRS DRS SIZE SWAP RSS SHRD LIB DT COMMAND"),
            ("-e --context", "PID CONTEXT COMMAND"),
        ];
        for (arguments, expected) in cases {
            assert_eq!(titles(arguments), expected, "{arguments}");
        }
    }

    #[test]
    fn columns_are_named() {
        let cases = [
            ("-o pid,args", "PID COMMAND"),
            ("-o pid,cmd,comm,ucmd", "PID CMD COMMAND CMD"),
            ("-eo pid -o args", "PID COMMAND"),
            ("-eopid,ppid", "PID PPID"),
            ("axo pid,tty,tname", "PID TT TTY"),
            ("axopid,user:20", "PID USER"),
            ("--format pid,etime,", "PID ELAPSED"),
            ("-o pid=,pid", " PID"),
            ("-o pid=PID,user=WHO", "PID WHO"),
            ("-o pid:10,comm=", "PID "),
            ("-O rss", "PID RSS S TTY TIME COMMAND"),
            ("axO rss", "PID RSS S TTY TIME COMMAND"),
            ("axOp", "PID TTY STAT TIME COMMAND"),
            ("-o %cpu,pid,%mem", "%CPU PID %MEM"),
            ("-eo %p%a", "PID COMMAND"),
            ("-eLo pid,lwp,comm", "PID LWP COMMAND"),
            ("-o pid,pcpu --sort=-pcpu", "PID %CPU"),
        ];
        for (arguments, expected) in cases {
            assert_eq!(titles(arguments), expected, "{arguments}");
        }
        let widths: Vec<_> =
            read("-o pid:10,user:20,comm").unwrap().columns.iter().map(|column| column.width).collect();
        assert_eq!(widths, [Some(10), Some(20), None]);
    }

    #[test]
    fn the_list_is_sorted_drawn_and_styled() {
        let sort = |arguments: &str| -> Vec<_> {
            read(arguments).unwrap().sort.iter().map(|sort| (sort.column, sort.descending)).collect()
        };
        let (load, resident) = (Column::LoadPercent, Column::Resident);
        assert_eq!(sort("aux --sort=-%cpu"), [(load, true)]);
        assert_eq!(sort("aux --sort -%cpu,+rss"), [(load, true), (resident, false)]);
        assert_eq!(sort("auxk-rss,pid"), [(resident, true), (Column::Pid, false)]);
        assert_eq!(sort("axO-rp"), [(resident, true), (Column::Pid, false)]);
        assert!(sort("aux").is_empty());
        let tree = |arguments: &str| read(arguments).unwrap().tree;
        assert_eq!(["faux", "axf", "-ef --forest"].map(tree), [Some(Tree::Drawn); 3]);
        assert_eq!(["-H -ef", "-eHf", "-ef"].map(tree), [Some(Tree::Indented), Some(Tree::Indented), None]);
        let threads = |arguments: &str| read(arguments).unwrap().threads;
        assert_eq!(["-eLf", "-eT", "auxH", "-eLo pid,lwp"].map(threads), [Threads::Each; 4]);
        assert_eq!(["auxm", "-efm", "-eLm", "-ef"].map(threads)[..3], [Threads::Below; 3]);
        let style = read("auxceSn").unwrap().style;
        assert_eq!(style, Style { short: true, environment: true, children: true, numeric: true });
        assert_eq!(read("-ef --cumulative").unwrap().style, Style { children: true, ..Style::default() });
    }

    #[test]
    fn processes_are_picked() {
        let lists = |arguments: &str| read(arguments).unwrap().select.lists;
        let pids = || vec![List::Pids(vec![1, 2])];
        for arguments in
            ["-p 1,2", "-p1,2", "--pid 1,2", "--pid=1,2", "p 1,2", "p1,2", "1,2", "-q 1,2", "--quick-pid:1,2"]
        {
            assert_eq!(lists(arguments), pids(), "{arguments}");
        }
        let cases = [
            ("-fu ann,0", List::UserIds(Whose::Effective, vec![7, 0])),
            ("U ann", List::UserIds(Whose::Effective, vec![7])),
            ("--User ann", List::UserIds(Whose::Real, vec![7])),
            ("-G staff", List::GroupIds(Whose::Real, vec![50])),
            ("--group 50", List::GroupIds(Whose::Effective, vec![50])),
            ("-g 50", List::Sessions(vec![50])),
            ("-g staff", List::GroupIds(Whose::Effective, vec![50])),
            ("--ppid 1", List::Parents(vec![1])),
            ("-5", List::Groups(vec![5])),
            ("+5", List::Sessions(vec![5])),
            ("-s 5", List::Sessions(vec![5])),
            ("-fC nginx,sh", List::Names(vec!["nginx".to_owned(), "sh".to_owned()])),
            ("-t pts/0,-", List::Terminals(vec!["pts/0".to_owned(), "?".to_owned()])),
        ];
        for (arguments, list) in cases {
            assert_eq!(lists(arguments), [list], "{arguments}");
        }
        let select = read("-N -p 1 r").unwrap().select;
        assert!(select.negated && select.running && !select.all);
        assert!(read("ax").unwrap().select.all && read("-A").unwrap().select.all && !read("a").unwrap().select.all);
    }

    #[test]
    fn what_is_not_known_is_called_by_its_name() {
        let cases = [
            ("-o comm", "Couldn't find PID field in ps output"),
            ("-o pid=", "Couldn't find PID field in ps output"),
            ("-o pid=X,comm", "Couldn't find PID field in ps output"),
            ("-o tgid", "Couldn't find PID field in ps output"),
            ("aux --no-headers", "Couldn't find PID field in ps output"),
            ("auxh", "Couldn't find PID field in ps output"),
            ("-o ppid=PID", "specifying \"ppid=PID\" is not allowed"),
            ("-o pid,ppid=PIDX", "specifying \"pid,ppid=PIDX\" is not allowed"),
            ("-o ppid=PID,pid=PID", "specifying \"ppid=PID,pid=PID\" is not allowed"),
            ("-o pid,bogus", "ps: unknown user-defined format specifier \"bogus\""),
            ("-o pid:x", "ps: the width of column \"pid\" is no number"),
            ("-o pid:0", "ps: the width of column \"pid\" is no number"),
            ("-o pid,,comm", "ps: option -o: \"pid,,comm\" is no list"),
            ("-eo %p%q", "ps: unknown format \"%p%q\""),
            ("-e -o", "ps: option -o needs a value"),
            ("--sort=", "ps: option --sort needs a value"),
            ("aux --sort=bogus", "ps: cannot sort by \"bogus\""),
            ("aux k pid k rss", "ps: the list can be sorted only once"),
            ("--forest=x", "ps: option --forest takes no value, such as \"x\""),
            ("--bogus", "ps: unknown option --bogus"),
            ("-eB", "ps: unknown option -B"),
            ("auB", "ps: unknown option B"),
            ("-", "ps: unknown option -"),
            ("--", "ps: unknown option --"),
            ("é", "ps: unknown option é"),
            ("-p 1,x", "ps: option -p: \"x\" is no number of a process"),
            ("-p 4294967295", "ps: option -p: \"4294967295\" is no number of a process"),
            ("-u bob", "ps: option -u: there is no user \"bob\""),
            ("-t nope", "ps: option -t: there is no terminal \"nope\""),
            ("aux -f", "ps: the formats exclude each other"),
            ("-fo pid", "ps: columns that are named exclude other formats"),
            ("-a x", "ps: the options that pick processes exclude each other"),
            ("faux -L", "ps: threads cannot be shown in a tree"),
            ("auxHm", "ps: the options that show threads exclude each other"),
            ("-eLT", "ps: -L and -T exclude each other"),
        ];
        for (arguments, text) in cases {
            let error = read(arguments).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{arguments}");
            assert_eq!(error.to_string(), text, "{arguments}");
        }
        for (arguments, option) in
            [("aux --cols 80", "--cols"), ("-V", "-V"), ("L", "L"), ("T", "T"), ("--help", "--help")]
        {
            let error = read(arguments).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)), "{arguments}");
            assert!(error.to_string().starts_with(&format!("ps: option {option}")), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(arguments in "[ \\-+=:,%a-zA-Z0-9é]{0,24}") {
            if let Ok(options) = read(&arguments) {
                assert!(options.columns.iter().any(|column| column.title == "PID"));
            }
        }
    }
}
