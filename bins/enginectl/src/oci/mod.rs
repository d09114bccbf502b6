//! The command line of an OCI runtime on the engine's runtime, with no daemon: what containerd, docker, podman and others call.
//!
//! Flags, texts and exit codes are those that callers of `runc` depend on. The container's process is the child of this program
//! and has its standard streams; when this program ends, the caller's nearest subreaper inherits it.

mod capabilities;
mod console;
mod create;
mod document;
mod events;
mod exec;
mod failure;
mod features;
mod flags;
mod foreground;
mod freeze;
mod kill;
mod list;
mod pidfd;
mod processes;
mod spec;
mod state;
mod update;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

use engine_runtime::{Runtime, RuntimeSettings};

use crate::session::Io;
use failure::{Failure, Log};
use flags::{Flag, Given, Place, switch, value};

/// The name under which the program is this command line alone.
const PROGRAM: &str = "engine-oci";
/// Where containers are written down unless `--root` says otherwise.
const ROOT: &str = "/run/engine-oci";
/// How the cgroup of a container begins whose specification names none.
const CGROUP: &str = "engine-oci";
/// The version of the specification that is implemented.
const SPECIFICATION: &str = "1.3.0";

/// The flags before the command.
const GLOBAL: &[Flag] = &[
    switch(&["debug"], "accepted; there is nothing more to tell"),
    value(&["log"], "write errors to this file as well as to standard error"),
    value(&["log-format"], "format of the log: text or json"),
    value(&["root"], "where containers are written down, on a tmpfs (default: /run/engine-oci)"),
    value(&["criu"], "accepted; there are no checkpoints"),
    switch(&["systemd-cgroup"], "have systemd make the cgroups"),
    value(&["rootless"], "auto or false; true is not supported"),
    switch(&["version", "v"], "print the version"),
];

const VERBS: &[&Verb] = &[
    &create::CREATE,
    &kill::DELETE,
    &events::EVENTS,
    &exec::EXEC,
    &features::FEATURES,
    &kill::KILL,
    &list::LIST,
    &freeze::PAUSE,
    &processes::PS,
    &freeze::RESUME,
    &create::RUN,
    &spec::SPEC,
    &create::START,
    &list::STATE,
    &update::UPDATE,
];

/// A command.
#[derive(Debug)]
struct Verb {
    name: &'static str,
    /// What follows the flags.
    words: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    place: Place,
    /// How many words there must be, and may be.
    count: (usize, usize),
    run: fn(&Call<'_>) -> Result<u8, Failure>,
}

/// What a command works with.
#[derive(Debug)]
struct Call<'a> {
    io: &'a Io,
    log: Log,
    given: Given,
    root: PathBuf,
    systemd: bool,
}

impl Call<'_> {
    /// The container that is meant.
    fn id(&self) -> &str {
        self.given.words.first().map_or("", String::as_str)
    }

    fn runtime(&self) -> Result<Runtime, Failure> {
        let settings =
            RuntimeSettings { run_directory: self.root.clone(), cgroup_parent: CGROUP.to_owned(), open_files: None };
        Ok(Runtime::open(settings)?)
    }

    /// What went wrong without changing what was asked for. Where there is a log it goes there only: standard error may be the
    /// container's.
    fn warn(&self, text: &str) {
        self.log.warning(self.io, text);
    }

    fn print(&self, text: &str) -> Result<(), Failure> {
        (&self.io.stdout).write_all(text.as_bytes()).map_err(Failure::io("write to standard output"))
    }

    fn print_json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))?;
        self.print(&text)
    }
}

/// Where the words of this command line begin, when it is meant: behind `oci`, or behind the program's name.
pub(crate) fn begins(arguments: &[OsString]) -> Option<usize> {
    let program = Path::new(arguments.first()?).file_name()?;
    if program == PROGRAM {
        return Some(1);
    }
    (arguments.get(1)? == "oci").then_some(2)
}

/// Does what the words ask for and gives the exit code.
pub(crate) fn run(words: &[OsString], io: &Io) -> u8 {
    let mut log = Log::default();
    match parse(words, io, &mut log).and_then(|(verb, call)| match verb {
        Some(verb) => (verb.run)(&call),
        None => Ok(0),
    }) {
        Ok(code) => code,
        Err(Failure::Help) => 0,
        Err(Failure::Usage(text)) => {
            log.error(io, &text);
            1
        }
        Err(Failure::Told { text, code }) => {
            log.error(io, &text);
            code
        }
    }
}

fn parse<'a>(words: &[OsString], io: &'a Io, log: &mut Log) -> Result<(Option<&'static Verb>, Call<'a>), Failure> {
    let text = |word: &OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| Failure::Usage(format!("{} is no UTF-8", word.display())))
    };
    let words = words.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    let help = |failure| {
        if matches!(failure, Failure::Help) {
            let _ = (&io.stdout).write_all(overview().as_bytes());
        }
        failure
    };
    let global = Given::parse(&[GLOBAL], words, Place::First).map_err(help)?;
    *log = Log::new(global.get("log"), global.get("log-format"))?;
    if global.get("rootless").is_some_and(|word| !matches!(word, "auto" | "false")) {
        return Err(Failure::new("--rootless=true is not supported: the runtime is to be run as root"));
    }
    let mut call = Call {
        io,
        log: log.clone(),
        given: Given::default(),
        root: PathBuf::from(global.get("root").unwrap_or(ROOT)),
        systemd: global.is_on("systemd-cgroup"),
    };
    if global.is_on("version") {
        call.print(&format!("engine version {}\nspec: {SPECIFICATION}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok((None, call));
    }
    let mut words = global.words.into_iter();
    let Some(name) = words.next().filter(|name| name != "help") else {
        call.print(&overview())?;
        return Ok((None, call));
    };
    let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else {
        return Err(Failure::Told { text: format!("No help topic for '{name}'"), code: 3 });
    };
    call.given = Given::parse(&[verb.flags], words, verb.place).map_err(|failure| {
        if matches!(failure, Failure::Help) {
            let _ = (&io.stdout).write_all(manual(verb).as_bytes());
        }
        failure
    })?;
    let (least, most) = verb.count;
    let given = call.given.words.len();
    if given < least || given > most {
        let how = match (least, most) {
            (least, most) if least == most => format!("exactly {least}"),
            (least, usize::MAX) => format!("a minimum of {least}"),
            (_, most) => format!("a maximum of {most}"),
        };
        return Err(Failure::Usage(format!("{PROGRAM}: {name:?} requires {how} argument(s)")));
    }
    Ok((Some(verb), call))
}

fn overview() -> String {
    let mut text = format!(
        "{PROGRAM} runs containers as the OCI runtime specification says\n\nUsage: {PROGRAM} [FLAGS] COMMAND [FLAGS] [WORDS]\n\n\
         Commands:\n"
    );
    for verb in VERBS {
        let _ = writeln!(text, "  {:<10} {}", verb.name, verb.about);
    }
    text.push_str("\nFlags:\n");
    text.push_str(&described(GLOBAL));
    text
}

fn manual(verb: &Verb) -> String {
    let flags = if verb.flags.is_empty() { String::new() } else { format!("\nFlags:\n{}", described(verb.flags)) };
    format!("{}\n\nUsage: {PROGRAM} {} [FLAGS] {}\n{flags}", verb.about, verb.name, verb.words)
}

fn described(flags: &[Flag]) -> String {
    let mut text = String::new();
    for flag in flags {
        let names: Vec<_> =
            flag.names.iter().map(|name| format!("{}{name}", if name.len() == 1 { "-" } else { "--" })).collect();
        let value = if flag.takes == flags::Takes::Value { " VALUE" } else { "" };
        let _ = writeln!(text, "  {:<30} {}", format!("{}{value}", names.join(", ")), flag.about);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_s_name_is_a_command() {
        let begins = |line: &str| begins(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(begins("/usr/bin/engine-oci state x"), Some(1));
        assert_eq!(begins("enginectl oci state x"), Some(2));
        assert_eq!(begins("enginectl run oci"), None);
        assert_eq!(begins("enginectl"), None);
    }

    #[test]
    fn every_command_is_explained() {
        assert!(VERBS.is_sorted_by_key(|verb| verb.name));
        for verb in VERBS {
            assert!(overview().contains(verb.about) && manual(verb).contains(verb.words));
        }
    }
}
