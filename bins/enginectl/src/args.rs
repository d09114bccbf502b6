//! The command line: which command, with which flags. Flags behave as Docker's: `--flag=false`, `-it`, the last one wins, and
//! what follows the image of `run` belongs to the container.

use std::ffi::OsString;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::pin::Pin;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::commands;
use crate::error::Error;
use crate::session::{Io, Session};

/// What a command does.
pub(crate) type Run = for<'a> fn(ArgMatches, &'a mut Session) -> Pin<Box<dyn Future<Output = Result<u8, Error>> + 'a>>;

/// A command: its name, its flags and what it does.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) augment: fn(Command) -> Command,
    pub(crate) run: Run,
}

/// Commands on one kind of object.
#[derive(Debug)]
pub(crate) struct Noun {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) entries: &'static [Entry],
}

/// An [`Entry`] of a module that has `Args` and `run`.
macro_rules! entry {
    ($name:literal $(| $alias:literal)*, $($module:tt)+) => {
        $crate::args::Entry {
            name: $name,
            aliases: &[$($alias),*],
            augment: |command| $crate::args::as_docker(<$($module)+::Args as clap::Args>::augment_args(command)),
            run: |matches, session| Box::pin(async move {
                let args = <$($module)+::Args as clap::FromArgMatches>::from_arg_matches(&matches)
                    .map_err(|error| $crate::error::Error::Invalid(error.to_string()))?;
                $($module)+::run(args, session).await
            }),
        }
    };
}
pub(crate) use entry;

/// A command line that was understood.
pub(crate) struct Call {
    pub(crate) host: Option<String>,
    pub(crate) run: Run,
    pub(crate) matches: ArgMatches,
}

/// The exit code of a command line that makes no sense, as Docker's.
const USAGE: u8 = 125;

/// Understands the command line, or prints why not (or the help that was asked for) and gives the exit code.
pub(crate) fn parse(arguments: Vec<OsString>, io: &Io) -> Result<Call, u8> {
    let mut matches = matches(&arguments).map_err(|error| explain(&near(error), io))?;
    let host = matches.remove_one::<String>("host");
    let Some((name, mut matches)) = matches.remove_subcommand() else { return Err(USAGE) };
    let mut entry = commands::TOP.iter().find(|entry| entry.name == name);
    if let Some(noun) = commands::NOUNS.iter().find(|noun| noun.name == name)
        && let Some((verb, inner)) = matches.remove_subcommand()
    {
        entry = noun.entries.iter().find(|entry| entry.name == verb);
        matches = inner;
    }
    match entry {
        Some(entry) => Ok(Call { host, run: entry.run, matches }),
        // The one command that is no client's takes none of the client's flags before it.
        None => {
            let _ = (&io.stderr).write_all(b"enginectl: no flag can stand before oci\n");
            Err(USAGE)
        }
    }
}

fn matches(arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let made = match word(arguments) {
        Some(word) => Made::Named(word),
        None => Made::All,
    };
    match command(made).try_get_matches_from(arguments) {
        // What is told of a mistake may be about the other commands.
        Err(_) if matches!(made, Made::Named(_)) => command(Made::Names).try_get_matches_from(arguments),
        matches => matches,
    }
}

/// The word that should be a command.
fn word(arguments: &[OsString]) -> Option<&str> {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_encoded_bytes() {
            b"-H" | b"--host" => {
                words.next();
            }
            b"-v" | b"--version" => return Some(""),
            [b'-', ..] => {}
            _ => return Some(word.to_str().unwrap_or("")),
        }
    }
    None
}

/// How much of the whole command is made: making all of it takes longer than most commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made<'a> {
    /// All commands with all they are, as help wants to know them.
    All,
    /// All commands; the flags of one when it turns out to be the one.
    Names,
    /// As [`Made::Names`], but only the command, or the noun, of this name.
    Named(&'a str),
}

/// The whole command.
pub(crate) fn command(made: Made<'_>) -> Command {
    let wanted = |name: &str| !matches!(made, Made::Named(only) if only != name);
    let eager = made == Made::All;
    let mut top =
        Command::new("enginectl")
            .about("A client of the engine, with the commands and flags of docker")
            .version(env!("CARGO_PKG_VERSION"))
            .disable_version_flag(true)
            .arg(
                Arg::new("version")
                    .short('v')
                    .long("version")
                    .action(ArgAction::Version)
                    .help("Print the version and exit"),
            )
            .subcommand_required(true)
            .arg_required_else_help(true)
            .disable_help_subcommand(true)
            .subcommand_value_name("COMMAND")
            .subcommand_help_heading("Commands")
            .args_override_self(true)
            .arg(
                Arg::new("host").short('H').long("host").value_name("ADDRESS").help(
                    "Where the engine listens [env: ENGINE_HOST, DOCKER_HOST] [default: unix:///run/engine.sock]",
                ),
            );
    for entry in commands::TOP.iter().filter(|entry| wanted(entry.name)) {
        top = top.subcommand(verb(entry, eager));
    }
    for noun in commands::NOUNS.iter().filter(|noun| wanted(noun.name)) {
        let mut group = Command::new(noun.name)
            .about(noun.about)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .disable_help_subcommand(true);
        for entry in noun.entries {
            group = group.subcommand(verb(entry, eager));
        }
        top = top.subcommand(group);
    }
    if !wanted("oci") {
        return top;
    }
    top.subcommand(Command::new("oci").about("An OCI runtime for other engines: see enginectl oci --help"))
}

fn verb(entry: &Entry, eager: bool) -> Command {
    let command = Command::new(entry.name).visible_aliases(entry.aliases.iter().copied()).args_override_self(true);
    if eager { (entry.augment)(command) } else { command.defer(entry.augment) }
}

/// Gives the flags of a command the manners of Docker's.
pub(crate) fn as_docker(command: Command) -> Command {
    command.mut_args(|arg| {
        if arg.is_positional() {
            return arg;
        }
        match arg.get_action() {
            ArgAction::SetTrue => {
                arg.num_args(0..=1).require_equals(true).value_parser(truth).hide_possible_values(true)
            }
            // Any next word is the value, also one that begins with a dash.
            ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
            _ => arg,
        }
    })
}

/// What Go takes for a truth value.
pub(crate) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Adds the command that was meant, where a letter is missing, too many or swapped and clap does not see it.
fn near(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand || error.get(ContextKind::SuggestedSubcommand).is_some() {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let names = commands::TOP.iter().map(|entry| entry.name).chain(commands::NOUNS.iter().map(|noun| noun.name));
    if let Some(name) = commands::suggest::nearest(word, names) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![name.to_owned()]));
    }
    error
}

/// Prints what is wrong with the command line, and how it would be right.
fn explain(error: &clap::Error, io: &Io) -> u8 {
    if !error.use_stderr() {
        let _ = (&io.stdout).write_all(styled(error, io.stdout.is_terminal(), io).as_bytes());
        return 0;
    }
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.split([' ', '=']).next().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let text = match error.kind() {
        ErrorKind::UnknownArgument => refusal(DOCKER_FLAGS, &word(ContextKind::InvalidArg), "flag"),
        ErrorKind::InvalidSubcommand => refusal(DOCKER_COMMANDS, &word(ContextKind::InvalidSubcommand), "command"),
        _ => None,
    };
    let text = text.unwrap_or_else(|| styled(error, io.stderr.is_terminal(), io));
    let _ = (&io.stderr).write_all(text.as_bytes());
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand { 1 } else { USAGE }
}

fn styled(error: &clap::Error, terminal: bool, io: &Io) -> String {
    let text = error.render();
    if terminal && io.variable("NO_COLOR").is_none() { text.ansi().to_string() } else { text.to_string() }
}

/// Why a word of docker's is not here, if it is one.
fn refusal(known: &[(&str, &[&str])], word: &str, what: &str) -> Option<String> {
    let (why, _) = known.iter().find(|(_, words)| words.contains(&word))?;
    Some(format!("enginectl: {word} is a {what} of docker that {why}\n"))
}

/// Docker's commands that are not here, by the reason.
const DOCKER_COMMANDS: &[(&str, &[&str])] = &[
    (
        NOT_YET,
        &["build", "buildx", "builder", "compose", "trust", "annotate", "create", "push", "rm", "remove", "prune"],
    ),
    (NO_CLUSTERS, &["config", "node", "secret", "service", "stack", "swarm", "update"]),
    (
        "has nothing to act on: this engine has no plugins, and a driver is part of the program that brings it",
        &["plugin"],
    ),
    ("enginectl does not have: say where the engine is with -H or ENGINE_HOST", &["context"]),
    ("enginectl has elsewhere: see its help", &["cp", "diff", "export", "history", "df"]),
];

/// Docker's flags that are not here, by the reason.
const DOCKER_FLAGS: &[(&str, &[&str])] = &[
    (NOT_YET, &["--tls", "--tlscacert", "--tlscert", "--tlskey", "--tlsverify", "--use-api-socket", "--insecure"]),
    ("is for Windows", &["--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops", "--isolation"]),
    ("kernels do not have any more: --memory counts that memory, too", &["--kernel-memory"]),
    ("enginectl does not have: say where the engine is with -H or ENGINE_HOST", &["--context"]),
    ("enginectl does not have: the directory of its settings is that of DOCKER_CONFIG", &["--config"]),
    (
        NO_CLUSTERS,
        &[
            "--availability",
            "--cluster",
            "--group",
            "--ingress",
            "--limit-bytes",
            "--required-bytes",
            "--scope",
            "--secret",
            "--sharing",
            "--topology-preferred",
            "--topology-required",
        ],
    ),
    ("enginectl does not have: it has nothing more to tell", &["--debug", "--log-level"]),
];

const NOT_YET: &str = "enginectl does not have yet";
const NO_CLUSTERS: &str = "is for clusters, which this engine does not make";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn matches(line: &str) -> Result<ArgMatches, clap::Error> {
        super::matches(&words(line))
    }

    fn inner(line: &str) -> ArgMatches {
        matches(line).unwrap().remove_subcommand().unwrap().1
    }

    #[test]
    fn the_commands_are_sound() {
        command(Made::All).debug_assert();
    }

    #[test]
    fn flags_have_docker_s_manners() {
        let run =
            inner("enginectl run -it --rm=false --rm --rm=0 -eA=1 -e B=2 --memory-swap -1 busybox ls -l --rm -- -x");
        assert!(run.get_flag("interactive") && run.get_flag("tty") && !run.get_flag("remove"));
        let words = |id: &str| run.get_many::<String>(id).unwrap().cloned().collect::<Vec<_>>();
        assert_eq!(words("env"), ["A=1", "B=2"]);
        assert_eq!(words("memory_swap"), ["-1"]);
        assert_eq!(words("arguments"), ["busybox", "ls", "-l", "--rm", "--", "-x"]);
    }

    #[test]
    fn the_host_name_is_h_and_help_is_long() {
        let run = inner("enginectl run -h name busybox");
        assert_eq!(run.get_one::<String>("hostname").map(String::as_str), Some("name"));
        assert_eq!(matches("enginectl run --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn management_forms_are_the_same() {
        for line in
            ["enginectl ps -a", "enginectl container ls -a", "enginectl container ps -a", "enginectl container list -a"]
        {
            assert!(matches(line).is_ok(), "{line}");
        }
        assert!(matches("enginectl rm -f a b").is_ok());
        assert!(matches("enginectl rm a -f b").is_ok());
        assert!(matches("enginectl rm").is_err());
    }

    #[test]
    fn all_is_only_made_for_help() {
        let named = |line: &str| word(&words(line)).map(str::to_owned);
        for line in ["enginectl ps", "enginectl -H x ps", "enginectl --host=x ps", "enginectl ps run"] {
            assert_eq!(named(line).as_deref(), Some("ps"), "{line}");
        }
        assert_eq!(named("enginectl -v").as_deref(), Some(""));
        for line in ["enginectl --help", "enginectl -H x --help", "enginectl -H ps"] {
            assert_eq!(named(line), None, "{line}");
        }
    }

    #[test]
    fn one_command_alone_is_as_it_is_among_all() {
        let names = commands::TOP.iter().map(|entry| entry.name).chain(commands::NOUNS.iter().map(|noun| noun.name));
        for name in names {
            let help =
                |made| command(made).try_get_matches_from(["enginectl", name, "--help"]).unwrap_err().to_string();
            assert_eq!(help(Made::Named(name)), help(Made::Names), "{name}");
        }
        let suggested = matches("enginectl comit busybox").unwrap_err();
        assert_eq!(suggested.kind(), ErrorKind::InvalidSubcommand);
        assert!(suggested.to_string().contains("'commit'"), "{suggested}");
        let swapped = near(matches("enginectl rnu busybox").unwrap_err()).to_string();
        assert!(swapped.contains("'run'"), "{swapped}");
        let strange = near(matches("enginectl abracadabra").unwrap_err()).to_string();
        assert!(!strange.contains("similar"), "{strange}");
    }

    #[test]
    fn truth_is_go_s() {
        assert_eq!((truth("1"), truth("F")), (Ok(true), Ok(false)));
        assert!(truth("yes").is_err());
    }
}
