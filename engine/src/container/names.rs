//! Names of containers: which are allowed, and those that are made up.

/// Why a name is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvalidName;

/// The name without the leading slash it may have.
pub(super) fn checked(name: &str) -> Result<&str, InvalidName> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && rest && (2..=255).contains(&bare.len()) { Ok(bare) } else { Err(InvalidName) }
}

const ADJECTIVES: [&str; 64] = [
    "agile", "airy", "alert", "amber", "apt", "ardent", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "clear", "clever", "cosmic", "crisp", "curious", "daring", "deft", "eager", "earnest", "fair", "fleet", "fresh",
    "gentle", "glad", "golden", "grand", "hardy", "hearty", "humble", "jolly", "keen", "kind", "lively", "lucid",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "placid", "plucky", "polite", "proud", "quick",
    "quiet", "rapid", "robust", "serene", "sharp", "silent", "smart", "solid", "spry", "steady", "sunny", "swift",
    "tidy", "vivid", "warm",
];

const SURNAMES: [&str; 64] = [
    "abel", "agnesi", "babbage", "banach", "bose", "boole", "cantor", "cerf", "church", "conway", "cray", "curie",
    "dijkstra", "dirac", "erdos", "euclid", "euler", "faraday", "fermat", "feynman", "fourier", "galois", "gauss",
    "germain", "godel", "hamming", "hertz", "hilbert", "hoare", "hopper", "huffman", "hypatia", "jacobi", "kepler",
    "kleene", "knuth", "lamport", "laplace", "leibniz", "liskov", "lovelace", "maxwell", "mendel", "milner", "minsky",
    "napier", "neumann", "newton", "noether", "pascal", "planck", "poisson", "raman", "riemann", "ritchie", "shannon",
    "sinclair", "stokes", "tarski", "thompson", "turing", "volta", "wiles", "wirth",
];

/// A name made up of a random number; from the fourth try on it has digits at its end, so that one is free sooner or later.
pub(super) fn made_up(random: u64, tries: u32) -> String {
    let pick = |words: &[&'static str; 64], shift: u32| words[usize::try_from((random >> shift) & 63).unwrap_or(0)];
    let name = format!("{}_{}", pick(&ADJECTIVES, 0), pick(&SURNAMES, 6));
    if tries < 3 { name } else { format!("{name}{}", (random >> 12) % 10_u64.pow(tries.min(12) - 2)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["ab", "/ab", "a_b.c-d", "9x", &"x".repeat(255)] {
            assert_eq!(checked(good), Ok(good.trim_start_matches('/')), "{good}");
        }
        for bad in ["", "/", "a", "_ab", "-ab", "a/b", "a b", "a\n", "//ab", "äb", &"x".repeat(256)] {
            assert_eq!(checked(bad), Err(InvalidName), "{bad}");
        }
    }

    #[test]
    fn made_up_names_are_names_and_grow_digits() {
        for random in 0..10_000_u64 {
            let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            assert!(checked(&made_up(random, 0)).is_ok());
        }
        assert!(made_up(u64::MAX, 5).ends_with(|c: char| c.is_ascii_digit()));
        let words: std::collections::BTreeSet<_> = ADJECTIVES.iter().chain(&SURNAMES).collect();
        assert_eq!(words.len(), 128);
    }
}
