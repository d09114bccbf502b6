//! Flags as the OCI runtimes have them: one dash or two, `--flag value` or `--flag=value`, anywhere before what belongs to the
//! container.

use super::failure::Failure;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing, or a truth value behind an equals sign.
    Nothing,
    /// A value; the last one counts.
    Value,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// Without dashes; the long name first.
    pub(super) names: &'static [&'static str],
    pub(super) takes: Takes,
    pub(super) about: &'static str,
}

/// A flag that takes nothing.
pub(super) const fn switch(names: &'static [&'static str], about: &'static str) -> Flag {
    Flag { names, takes: Takes::Nothing, about }
}

/// A flag that takes a value.
pub(super) const fn value(names: &'static [&'static str], about: &'static str) -> Flag {
    Flag { names, takes: Takes::Value, about }
}

/// Where flags may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Before the first word that is none.
    First,
    /// Anywhere before `--`.
    Anywhere,
}

/// A command line that was taken apart.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: Vec<(&'static str, String)>,
    /// What is no flag.
    pub(super) words: Vec<String>,
}

impl Given {
    /// Takes the words apart.
    pub(super) fn parse(
        flags: &[&'static [Flag]],
        words: impl IntoIterator<Item = String>,
        place: Place,
    ) -> Result<Self, Failure> {
        let mut given = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| !name.is_empty());
            let Some(name) = name else {
                let ends = word == "--";
                if !ends {
                    given.words.push(word);
                }
                if ends || place == Place::First {
                    break;
                }
                continue;
            };
            let (name, mut value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let known = flags.iter().flat_map(|list| list.iter()).find(|flag| flag.names.contains(&name));
            let Some(flag) = known else {
                if matches!(name, "h" | "help") {
                    return Err(Failure::Help);
                }
                if !given.words.is_empty() {
                    // Behind a word it may be one itself, such as a negative number.
                    given.words.push(word);
                    continue;
                }
                return Err(Failure::Usage(format!("flag provided but not defined: -{name}")));
            };
            match flag.takes {
                Takes::Nothing => {
                    let text = value.get_or_insert_with(|| "true".to_owned());
                    if crate::args::truth(text).is_err() {
                        return Err(Failure::Usage(format!("invalid boolean value {text:?} for -{name}: parse error")));
                    }
                }
                Takes::Value => {
                    value = value.or_else(|| words.next());
                    if value.is_none() {
                        return Err(Failure::Usage(format!("flag needs an argument: -{name}")));
                    }
                }
            }
            given.values.push((flag.names[0], value.unwrap_or_default()));
        }
        given.words.extend(words);
        Ok(given)
    }

    /// Every value of a flag, in order.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a flag that was given and is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last().filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.all(name).last().is_some_and(|value| crate::args::truth(value).unwrap_or(false))
    }

    /// The number that a flag was given.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let parse = |text: &str| {
            text.parse().map_err(|_| Failure::Usage(format!("invalid value {text:?} for flag -{name}: parse error")))
        };
        self.get(name).map(parse).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FLAGS: &[Flag] = &[switch(&["detach", "d"], ""), value(&["env", "e"], ""), value(&["bundle", "b"], "")];

    fn parse(line: &str, place: Place) -> Result<Given, Failure> {
        Given::parse(&[FLAGS], line.split(' ').map(str::to_owned), place)
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        for line in ["-bundle x -d id", "--bundle=x --d id", "--b x -detach=1 id"] {
            let given = parse(line, Place::Anywhere).unwrap();
            assert_eq!(
                (given.get("bundle"), given.is_on("detach"), &given.words[..]),
                (Some("x"), true, &["id".to_owned()][..])
            );
        }
        assert!(!parse("-d=false id", Place::Anywhere).unwrap().is_on("detach"));
        assert_eq!(parse("-e A=1 -e=B=2 x", Place::First).unwrap().all("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
    }

    #[test]
    fn the_container_s_words_are_its_own() {
        let given = parse("-d id ls -d --bundle", Place::First).unwrap();
        assert_eq!(given.words, ["id", "ls", "-d", "--bundle"]);
        let given = parse("id -d -9 -- -d", Place::Anywhere).unwrap();
        assert_eq!(
            (given.is_on("detach"), given.words),
            (true, vec!["id".to_owned(), "-9".to_owned(), "-d".to_owned()])
        );
    }

    #[test]
    fn mistakes_are_told_in_the_usual_words() {
        let text = |line| parse(line, Place::Anywhere).unwrap_err().to_string();
        assert_eq!(text("--nope id"), "flag provided but not defined: -nope");
        assert_eq!(text("id --bundle"), "flag needs an argument: -bundle");
        assert!(matches!(parse("--help", Place::First), Err(Failure::Help)));
    }
}
