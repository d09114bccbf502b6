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
use crate::session::{Choices, Io, Session};

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
    pub(crate) choices: Choices,
    pub(crate) run: Run,
    pub(crate) matches: ArgMatches,
}

/// The exit code of flags that make no sense, as Docker's.
const FLAGS: u8 = 125;
/// That of words that make none: a command that there is not, too few or too many of what it is about.
const WORDS: u8 = 1;

/// Understands the command line, or prints why not (or the help that was asked for) and gives the exit code.
pub(crate) fn parse(arguments: Vec<OsString>, io: &Io) -> Result<Call, u8> {
    let mut matches = matches(&arguments).map_err(|error| explain(&near(error), io))?;
    let choices = choices(&mut matches).map_err(|text| {
        let _ = (&io.stderr).write_all(format!("enginectl: {text}\n").as_bytes());
        WORDS
    })?;
    let Some((name, mut matches)) = matches.remove_subcommand() else { return Err(WORDS) };
    let mut entry = commands::TOP.iter().find(|entry| entry.name == name);
    if let Some(noun) = commands::NOUNS.iter().find(|noun| noun.name == name)
        && let Some((verb, inner)) = matches.remove_subcommand()
    {
        entry = noun.entries.iter().find(|entry| entry.name == verb);
        matches = inner;
    }
    match entry {
        Some(entry) => Ok(Call { choices, run: entry.run, matches }),
        // The one command that is no client's takes none of the client's flags before it.
        None => {
            let _ = (&io.stderr).write_all(b"enginectl: no flag can stand before oci\n");
            Err(FLAGS)
        }
    }
}

/// What the flags before the command say.
fn choices(matches: &mut ArgMatches) -> Result<Choices, String> {
    let mut word = |name: &str| matches.remove_one::<String>(name);
    let (host, config, context, level) = (word("host"), word("config"), word("context"), word("log_level"));
    match context.as_deref() {
        None | Some("") => {}
        Some(_) if host.is_some() => {
            return Err("conflicting options: cannot specify both --host and --context".to_owned());
        }
        Some("default") => {}
        Some(other) => {
            return Err(format!(
                "context {other:?}: there are no contexts but \"default\": say where the engine is with -H or ENGINE_HOST"
            ));
        }
    }
    if matches.get_flag("tls") {
        return Err("--tls: enginectl does not speak TLS yet: use a unix socket".to_owned());
    }
    let debug = matches.get_flag("debug") || matches!(level.as_deref(), Some("debug" | "trace"));
    match level.as_deref() {
        None | Some("trace" | "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic") => {}
        Some(other) => return Err(format!("unable to parse logging level: {other}")),
    }
    Ok(Choices { host, config, debug })
}

/// The arguments that `help COMMAND` stands for, if that is what there is: `COMMAND --help`.
pub(crate) fn asked_for_help(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let mut words = words(arguments);
    words.next().filter(|word| *word == "help")?;
    let about = words.next();
    // What stands behind a command that is none of a noun could be taken for the command of a container.
    let noun = about.is_some_and(|about| commands::NOUNS.iter().any(|noun| about == noun.name));
    let verb = words.next().filter(|_| noun);
    let all = arguments.first().into_iter().chain(about).chain(verb).cloned();
    Some(all.chain([OsString::from("--help")]).collect())
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
    if arguments.iter().skip(1).take_while(|word| word.as_encoded_bytes().starts_with(b"-")).any(is_version) {
        return Some("");
    }
    words(arguments).next().map(|word| word.to_str().unwrap_or(""))
}

fn is_version(word: &OsString) -> bool {
    word == "-v" || word == "--version"
}

/// The words from the command on that are no flags; what flags before it are given is none of them.
fn words(arguments: &[OsString]) -> impl Iterator<Item = &OsString> {
    const WITH_VALUE: &[&str] = &["-H", "--host", "-c", "--context", "-l", "--log-level", "--config"];
    let mut begun = false;
    let mut value = false;
    arguments.iter().skip(1).filter(move |word| {
        let is_value = std::mem::take(&mut value);
        value = !begun && !is_value && WITH_VALUE.iter().any(|flag| word == flag);
        let is_word = !is_value && !word.as_encoded_bytes().starts_with(b"-");
        begun |= is_word;
        is_word
    })
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
    let mut top = Command::new("enginectl")
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
        .args(flags());
    top = as_docker(top);
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

/// The flags before the command.
fn flags() -> [Arg; 6] {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    [
        flag("host", "Where the engine listens [env: ENGINE_HOST, DOCKER_HOST] [default: unix:///run/engine.sock]")
            .short('H')
            .value_name("ADDRESS"),
        flag("config", "Where logins are kept and helpers for them named [env: DOCKER_CONFIG] [default: ~/.docker]")
            .value_name("DIRECTORY"),
        flag("context", "Only default, which is the engine of ENGINE_HOST or DOCKER_HOST: there are no others")
            .short('c')
            .value_name("NAME"),
        flag("debug", "Tell on standard error what the engine is asked and how it answers")
            .short('D')
            .value_name("BOOL")
            .action(ArgAction::SetTrue),
        flag(
            "log-level",
            "debug is --debug; info, warn, error and fatal are the same, for errors are told in any case",
        )
        .id("log_level")
        .short('l')
        .value_name("LEVEL"),
        flag("tls", "Only --tls=false, which is the case: enginectl does not speak TLS yet").action(ArgAction::SetTrue),
    ]
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
    code(error)
}

/// Docker's exit code for it: its help is what somebody gets who says nothing.
fn code(error: &clap::Error) -> u8 {
    let is_flag = |word: &String| word.starts_with('-');
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _) => 0,
        (_, Some(ContextValue::String(word))) if is_flag(word) => FLAGS,
        (_, Some(ContextValue::Strings(words))) if words.iter().any(is_flag) => FLAGS,
        _ => WORDS,
    }
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
    (NOT_YET, &["--tlscacert", "--tlscert", "--tlskey", "--tlsverify", "--use-api-socket", "--insecure"]),
    ("is for Windows", &["--cpu-count", "--cpu-percent", "--io-maxbandwidth", "--io-maxiops"]),
    ("kernels do not have any more: --memory counts that memory, too", &["--kernel-memory"]),
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
        for line in ["enginectl -D -l debug -c default --config x ps", "enginectl --tls=false --config=x ps -l run"] {
            assert_eq!(named(line).as_deref(), Some("ps"), "{line}");
        }
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
    fn help_of_a_command_is_never_the_command() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(asked_for_help(&words(line)), expected.map(words), "{line}");
        };
        check("enginectl help", Some("enginectl --help"));
        check("enginectl -H x help run", Some("enginectl run --help"));
        check("enginectl help container ls", Some("enginectl container ls --help"));
        check("enginectl help run busybox rm", Some("enginectl run --help"));
        check("enginectl run busybox help", None);
        check("enginectl ps help", None);
    }

    #[test]
    fn flags_before_the_command() {
        let choices = |line: &str| choices(&mut matches(line).unwrap());
        let some = choices("enginectl -D --tls=false --config /x -c default ps").unwrap();
        assert_eq!((some.debug, some.config.as_deref(), some.host), (true, Some("/x"), None));
        assert!(choices("enginectl --log-level debug ps").unwrap().debug);
        assert!(!choices("enginectl -l warn --debug=false ps").unwrap().debug);
        for line in ["--tls ps", "-c other ps", "-c default -H x ps", "-l loud ps"] {
            assert!(choices(&format!("enginectl {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn wrong_flags_and_wrong_words_differ() {
        let code = |line: &str| code(&matches(&format!("enginectl {line}")).unwrap_err());
        for line in ["run", "exec web", "ps more", "pasue", "container pasue", "tag one", "completion tcsh"] {
            assert_eq!(code(line), 1, "{line}");
        }
        for line in ["run --nope busybox", "run --memory", "exec -x web true", "ps -n many", "--nope ps"] {
            assert_eq!(code(line), 125, "{line}");
        }
        assert_eq!((code("container"), super::code(&matches("enginectl").unwrap_err())), (0, 0));
    }

    #[test]
    fn truth_is_go_s() {
        assert_eq!((truth("1"), truth("F")), (Ok(true), Ok(false)));
        assert!(truth("yes").is_err());
    }
}
