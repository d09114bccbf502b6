//! What a registry wants to see before it answers: `WWW-Authenticate`.

/// A scheme and what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Challenge {
    /// Name and password.
    Basic,
    /// A token that is to be had elsewhere.
    Bearer {
        /// Where.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// What for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best challenge of all headers that can be met, a token before a password.
    pub fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        parse(headers)
    }
}

const MAX_LENGTH: usize = 8192;

pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for challenge in headers.filter(|header| header.len() <= MAX_LENGTH).flat_map(all) {
        if best.is_none() || challenge != Challenge::Basic {
            best = Some(challenge);
        }
    }
    best
}

/// A challenge that is being read.
#[derive(Default)]
struct Begun {
    scheme: String,
    realm: Option<String>,
    service: Option<String>,
    scope: Option<String>,
}

impl Begun {
    fn done(self) -> Option<Challenge> {
        let Self { scheme, realm, service, scope } = self;
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer { realm: realm?, service, scope }),
            _ => None,
        }
    }
}

/// The challenges of one header, which may be several; what comes after something that cannot be read is left out.
fn all(header: &str) -> Vec<Challenge> {
    let (mut found, mut begun) = (Vec::new(), None::<Begun>);
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            break;
        }
        let (word, after) =
            rest.split_at(rest.find(|c: char| c.is_whitespace() || ",=".contains(c)).unwrap_or(rest.len()));
        match (after.trim_start().strip_prefix('='), &mut begun) {
            (Some(after), Some(begun)) => {
                let Some((value, after)) = value(after.trim_start()) else { return found };
                match word.to_ascii_lowercase().as_str() {
                    "realm" => begun.realm = Some(value),
                    "service" => begun.service = Some(value),
                    "scope" => begun.scope = Some(value),
                    _ => {}
                }
                rest = after;
            }
            (Some(_), None) => return found,
            // A word that nothing is said to be equal to is the next scheme.
            (None, before) => {
                found.extend(before.take().and_then(Begun::done));
                begun = Some(Begun { scheme: word.to_owned(), ..Begun::default() });
                rest = after;
            }
        }
    }
    found.extend(begun.and_then(Begun::done));
    found
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(header: &str) -> Option<Challenge> {
        parse(std::iter::once(header))
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) })
        };
        assert_eq!(
            parsed(
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ),
            bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(parsed(r#"bearer realm=x , error="invalid \"token\"", service=y"#), bearer("x", Some("y"), None));
        assert_eq!(parsed(r#"Basic realm="Registry""#), Some(Challenge::Basic));
        assert_eq!(parse(["Basic realm=x", "Bearer realm=y"].into_iter()), bearer("y", None, None));
        for several in [
            r#"Basic realm="x", Bearer realm="y",service = "a, b""#,
            r#"Bearer realm="y", service="a, b", Basic realm="x""#,
            r#"Negotiate, Digest a=b,,Bearer  service="a, b" , realm=y"#,
        ] {
            assert_eq!(parsed(several), bearer("y", Some("a, b"), None), "{several}");
        }
        assert_eq!(parsed("Negotiate abc==, Basic"), Some(Challenge::Basic));
        assert_eq!(parse(["Bearer realm=y", "Basic realm=x"].into_iter()), bearer("y", None, None));
    }

    /// Numbers that are the same each time.
    struct Seed(u64);

    impl Seed {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 11).unwrap_or(0) % limit.max(1)
        }

        fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
            from[self.below(from.len())]
        }

        fn text(&mut self) -> String {
            let pieces =
                ["https://", "a", "B", "/", ":", "\"", "\\", ",", "=", " ", "ö", "\t", "repository", "%", "\u{7f}"];
            (0..1 + self.below(8)).map(|_| self.pick(&pieces)).collect()
        }
    }

    #[test]
    fn what_nobody_thought_of_is_a_challenge_or_none() {
        let mut seed = Seed(0x9e37_79b9_7f4a_7c15);
        for _ in 0..20_000 {
            // What was written by the rules is read as it was meant.
            let fields = ["realm", "service", "scope"].map(|name| (name, seed.text()));
            let mut order: Vec<_> = fields.iter().collect();
            order.swap(0, seed.below(3));
            let quote = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"");
            let space = |seed: &mut Seed| seed.pick(&["", " ", "  "]);
            let mut header = seed.pick(&["Bearer ", "bearer ", "BEARER  "]).to_owned();
            for (index, (name, text)) in order.into_iter().enumerate() {
                header += if index > 0 { "," } else { "" };
                header += &format!("{}{name}=\"{}\"{}", space(&mut seed), quote(text), space(&mut seed));
            }
            let [(_, realm), (_, service), (_, scope)] = fields;
            let whole = Challenge::Bearer { realm, service: Some(service), scope: Some(scope) };
            assert_eq!(parsed(&header), Some(whole), "{header}");
            // And what is spoilt is something or nothing, and never more than there was.
            let mut spoilt: Vec<char> = header.chars().collect();
            for _ in 0..1 + seed.below(4) {
                let at = seed.below(spoilt.len());
                match seed.below(3) {
                    0 if !spoilt.is_empty() => drop(spoilt.remove(at)),
                    1 => spoilt.insert(at, seed.pick(&["\"", "\\", ",", "=", " "]).chars().next().unwrap_or(' ')),
                    _ => spoilt.truncate(at.max(1)),
                }
            }
            let spoilt: String = spoilt.into_iter().collect();
            if let Some(Challenge::Bearer { realm, service, scope }) = parsed(&spoilt) {
                let found = realm.len() + service.unwrap_or_default().len() + scope.unwrap_or_default().len();
                assert!(found <= spoilt.len(), "{spoilt}");
            }
        }
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for wrong in
            ["", "Bearer", "Bearer realm", r#"Bearer realm="x"#, "Bearer service=x", "Negotiate", r#"Bearer realm="\"#]
        {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
        assert_eq!(parsed(&format!("Bearer realm={}", "x".repeat(9000))), None);
    }
}
