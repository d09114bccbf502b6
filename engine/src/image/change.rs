//! Changes of an image's configuration, written as the instructions of a Dockerfile that only change that.

use serde_json::Value;

use super::Error;
use crate::oci::{Execution, Healthcheck};

/// Applies one change, or several in lines of their own.
pub(super) fn apply(config: &mut Execution, text: &str) -> Result<(), Error> {
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        one(config, line)?;
    }
    Ok(())
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::Change(reason.into())
}

fn one(config: &mut Execution, line: &str) -> Result<(), Error> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (word, rest) = (word.to_ascii_uppercase(), rest.trim());
    if rest.is_empty() {
        return Err(invalid(format!("{word} requires at least one argument")));
    }
    match word.as_str() {
        "CMD" => config.cmd = Some(program(rest)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(program(rest));
            // What the command was belonged to the entrypoint before.
            config.cmd = None;
        }
        "ENV" => {
            for (name, value) in pairs(&word, rest)? {
                let prefix = format!("{name}=");
                let variable = format!("{prefix}{value}");
                match config.env.iter_mut().find(|known| known.starts_with(&prefix)) {
                    Some(known) => *known = variable,
                    None => config.env.push(variable),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs(&word, rest)?),
        "EXPOSE" => {
            for port in words(rest)? {
                config.exposed_ports.extend(ports(&port)?);
            }
        }
        "VOLUME" => {
            let volumes = list(rest).map_or_else(|| words(rest), Ok)?;
            if volumes.iter().any(|volume| volume.trim().is_empty()) {
                return Err(invalid("VOLUME specified can not be an empty string"));
            }
            config.volumes.extend(volumes);
        }
        "USER" => config.user = only(&word, rest)?,
        "WORKDIR" => {
            let path = only(&word, rest)?;
            let base = if config.working_dir.is_empty() { "/" } else { config.working_dir.as_str() };
            config.working_dir = joined(base, &path);
        }
        "STOPSIGNAL" => config.stop_signal = Some(only(&word, rest)?),
        "ONBUILD" => {
            let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            if matches!(trigger.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
                return Err(invalid(format!("{trigger} isn't allowed as an ONBUILD trigger")));
            }
            config.on_build.push(rest.to_owned());
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => return Err(invalid(format!("{word} is not a valid change command"))),
    }
    Ok(())
}

/// A program in JSON, or a line for the shell.
fn program(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

fn list(text: &str) -> Option<Vec<String>> {
    if text.starts_with('[') { serde_json::from_str(text).ok() } else { None }
}

fn only(word: &str, text: &str) -> Result<String, Error> {
    match words(text)?.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(invalid(format!("{word} requires exactly one argument"))),
    }
}

/// `NAME=value` several times, or one `NAME value`.
fn pairs(word: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    let first = text.split_whitespace().next().unwrap_or_default();
    let pairs = if first.contains('=') {
        let pair = |text: String| {
            let (name, value) = text.split_once('=').ok_or_else(|| {
                invalid(format!("Syntax error - can't find = in {text:?}. Must be of the form: name=value"))
            })?;
            Ok((name.to_owned(), value.to_owned()))
        };
        words(text)?.into_iter().map(pair).collect::<Result<Vec<_>, Error>>()?
    } else {
        let (name, value) =
            text.split_once(char::is_whitespace).ok_or_else(|| invalid(format!("{word} must have two arguments")))?;
        vec![(name.to_owned(), value.trim().to_owned())]
    };
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(invalid(format!("{word} names can not be blank")));
    }
    Ok(pairs)
}

/// Words by spaces; quotes keep them together, and a backslash takes the next character as it is.
fn words(text: &str) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => match characters.next() {
                Some(next) => {
                    let word = word.get_or_insert_default();
                    if quote.is_some() && !matches!(next, '"' | '\\' | '$') {
                        word.push('\\');
                    }
                    word.push(next);
                }
                None => word.get_or_insert_default().push('\\'),
            },
            (character, Some(open)) if character == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (character, None) if character.is_whitespace() => words.extend(word.take()),
            (character, _) => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err(invalid(format!("a quote is not closed: {text}")));
    }
    words.extend(word);
    Ok(words)
}

/// `80`, `53/udp` or `8000-8010/tcp`.
fn ports(text: &str) -> Result<Vec<String>, Error> {
    let wrong = || invalid(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(invalid(format!("invalid proto: {protocol}")));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first > last || first == 0 {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn joined(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `NONE`, or options and `CMD`.
fn healthcheck(text: &str) -> Result<Healthcheck, Error> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        let (name, value) = option.split_once('=').ok_or_else(|| invalid(format!("--{option} needs a value")))?;
        let time = || duration(value).ok_or_else(|| invalid(format!("invalid duration {value:?} of --{name}")));
        match name {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => check.retries = value.parse().map_err(|_| invalid(format!("invalid number {value:?}")))?,
            _ => return Err(invalid(format!("unknown flag: {name}"))),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.trim().is_empty() => vec!["NONE".to_owned()],
        "CMD" if !command.trim().is_empty() => match list(command.trim()) {
            Some(program) => [vec!["CMD".to_owned()], program].concat(),
            None => vec!["CMD-SHELL".to_owned(), command.trim().to_owned()],
        },
        _ => return Err(invalid(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
    };
    Ok(check)
}

/// Go's durations, such as `1m30s`, in nanoseconds.
fn duration(text: &str) -> Option<i64> {
    let mut sum = 0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        sum += number
            * match &after[..letters] {
                "ns" => 1.0,
                "us" | "µs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &after[letters..];
    }
    #[allow(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (!text.is_empty() && sum < 9e18).then_some(sum as i64)
}

/// Lays what a client's document says over what is there.
pub(super) fn overlay(mut below: Execution, above: Value) -> Result<Execution, Error> {
    if above.as_object().is_some_and(serde_json::Map::is_empty) {
        return Ok(below);
    }
    let above: Execution =
        serde_json::from_value(above).map_err(|error| invalid(format!("the configuration: {error}")))?;
    for variable in above.env {
        let name = variable.split('=').next().unwrap_or_default().to_owned() + "=";
        below.env.retain(|known| !known.starts_with(&name));
        below.env.push(variable);
    }
    if above.entrypoint.as_ref().is_some_and(|program| !program.is_empty()) {
        below.entrypoint = above.entrypoint;
        below.cmd = above.cmd;
    } else if above.cmd.as_ref().is_some_and(|command| !command.is_empty()) {
        below.cmd = above.cmd;
    }
    below.exposed_ports.extend(above.exposed_ports);
    below.volumes.extend(above.volumes);
    below.labels.extend(above.labels);
    // Docker joins the rest, and of these takes the document's alone.
    below.on_build = above.on_build;
    for (below, above) in [(&mut below.user, above.user), (&mut below.working_dir, above.working_dir)] {
        if !above.is_empty() {
            *below = above;
        }
    }
    below.stop_signal = above.stop_signal.or(below.stop_signal);
    below.healthcheck = above.healthcheck.or(below.healthcheck);
    below.shell = above.shell.or(below.shell);
    Ok(below)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn changed(lines: &[&str]) -> Result<Execution, String> {
        let mut config = Execution { cmd: Some(vec!["old".to_owned()]), ..Execution::default() };
        for line in lines {
            apply(&mut config, line).map_err(|error| error.to_string())?;
        }
        Ok(config)
    }

    #[test]
    fn changes_are_those_of_a_dockerfile() {
        let config = changed(&[
            "ENTRYPOINT [\"/x\", \"-y\"]",
            "CMD echo $HOME",
            "ENV A=1 B=\"two words\" C=a\\ b",
            "env A new value\nLABEL k='v w'",
            "EXPOSE 80 53/udp 7000-7002",
            "VOLUME /data /logs",
            "VOLUME [\"/with space\"]",
            "WORKDIR /srv",
            "WORKDIR ../app/./x",
            "USER 1:2",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN true",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD wget -q localhost",
        ])
        .unwrap();
        assert_eq!(config.entrypoint.unwrap(), ["/x", "-y"]);
        assert_eq!(config.cmd.unwrap(), ["/bin/sh", "-c", "echo $HOME"]);
        assert_eq!(config.env, ["A=new value", "B=two words", "C=a b"]);
        assert_eq!(config.labels["k"], "v w");
        let ports: Vec<_> = config.exposed_ports.iter().map(String::as_str).collect();
        assert_eq!(ports, ["53/udp", "7000/tcp", "7001/tcp", "7002/tcp", "80/tcp"]);
        assert_eq!(config.volumes.into_iter().collect::<Vec<_>>(), ["/data", "/logs", "/with space"]);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/app/x", "1:2"));
        let check = config.healthcheck.unwrap();
        assert_eq!((check.interval, check.retries, check.test[0].as_str()), (90_000_000_000, 3, "CMD-SHELL"));
        assert_eq!(changed(&["ENTRYPOINT x"]).unwrap().cmd, None);
        assert_eq!(changed(&["HEALTHCHECK NONE"]).unwrap().healthcheck.unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for (line, text) in [
            ("RUN rm -rf /", "RUN is not a valid change command"),
            ("CMD", "requires at least one argument"),
            ("ENV X", "must have two arguments"),
            ("ENV =x", "can not be blank"),
            ("ENV A=1 B", "Must be of the form: name=value"),
            ("LABEL a='x", "a quote is not closed"),
            ("EXPOSE x", "invalid containerPort: x"),
            ("EXPOSE 9-8", "invalid containerPort: 9-8"),
            ("EXPOSE 1/icmp", "invalid proto: icmp"),
            ("USER a b", "requires exactly one argument"),
            ("ONBUILD FROM x", "isn't allowed as an ONBUILD trigger"),
            ("HEALTHCHECK --x=1 CMD y", "unknown flag: x"),
            ("HEALTHCHECK x", "Unknown type"),
        ] {
            let error = changed(&[line]).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }

    #[test]
    fn what_a_client_sends_lies_above() {
        let below = Execution {
            cmd: Some(vec!["a".to_owned()]),
            entrypoint: Some(vec!["e".to_owned()]),
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            user: "u".to_owned(),
            on_build: vec!["RUN below".to_owned()],
            ..Execution::default()
        };
        assert_eq!(overlay(below.clone(), serde_json::json!({})).unwrap(), below);
        let triggers = overlay(below.clone(), serde_json::json!({"OnBuild": ["RUN above"]})).unwrap().on_build;
        assert_eq!(triggers, ["RUN above"]);
        let merged =
            overlay(below, serde_json::json!({"Cmd": ["b"], "Env": ["A=3"], "User": "", "Labels": {"k": "v"}}));
        let merged = merged.unwrap();
        assert_eq!((merged.cmd.unwrap(), merged.entrypoint.unwrap()), (vec!["b".to_owned()], vec!["e".to_owned()]));
        assert_eq!((merged.env, merged.user.as_str()), (vec!["B=2".to_owned(), "A=3".to_owned()], "u"));
        assert_eq!(merged.labels["k"], "v");
        assert!(merged.on_build.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(line in "\\PC{0,60}") {
            let _ = changed(&[&line]);
            let _ = changed(&[&format!("HEALTHCHECK {line}"), &format!("ENV {line}")]);
        }
    }
}
