//! The rules of ARCHITECTURE.md and CONTRIBUTING.md, held: layers, dependencies, where unsafe may be, how files look.
//!
//! A rule is a pure function from a tree of files to what is wrong with it, so that each is also shown to
//! refuse a small made-up tree. Text is read, not syntax: comments, strings and inline test modules are blanked first.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Path relative to the project (with `/`) to content; `.rs`, `.toml` and `.md` files.
type Tree = BTreeMap<String, String>;
/// What is wrong, one sentence each.
type Faults = Vec<String>;

const LIBRARIES: [&str; 5] =
    ["engine/src", "engine/sys/src", "engine/shim/src", "engine/runtime/src", "engine/api/src"];
const UNSAFE_CRATES: [&str; 2] = ["engine/sys", "engine/shim"];
const LONGEST_FILE: usize = 1_000;
const MEANINGLESS: [&str; 14] = [
    "util", "utils", "common", "helper", "helpers", "misc", "manager", "impl", "core", "types", "base", "data", "info",
    "lib_impl",
];

// ---- the project itself

macro_rules! holds {
    ($($name:ident: $rule:expr;)*) => {$(
        #[test]
        fn $name() {
            let rule: fn(&Tree) -> Faults = $rule;
            let faults = rule(&project());
            assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
        }
    )*};
}

holds! {
    modules_use_only_lower_layers: layers;
    no_crate_depends_on_what_it_must_not_know: dependencies;
    unsafe_stays_in_two_crates: unsafe_code;
    the_library_touches_no_surroundings: surroundings;
    every_test_file_is_run: forgotten_tests;
    no_file_is_too_long: long_files;
    library_files_say_what_they_are: file_heads;
    module_names_mean_something: module_names;
    nothing_is_left_to_do: unfinished;
}

fn project() -> Tree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Tree::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if [".rs", ".toml", ".md"].iter().any(|end| name.ends_with(end)) {
                let relative = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                tree.insert(relative, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(tree.len() > 20, "the project's files were not found");
    tree
}

// ---- the rules

/// Holds `engine/src` to the block marked `layers` in ARCHITECTURE.md: a module uses only lines below its own.
fn layers(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    let map = tree.get("ARCHITECTURE.md").map_or("", String::as_str);
    let block: Vec<&str> = map.lines().skip_while(|line| *line != "```layers").skip(1).collect();
    let lines: Vec<&str> = block.into_iter().take_while(|line| !line.starts_with("```")).collect();
    let mut height = BTreeMap::new();
    for (index, line) in lines.iter().rev().enumerate() {
        for module in line.split_whitespace() {
            if height.insert(module, index).is_some() {
                faults.push(format!("ARCHITECTURE.md names layer `{module}` twice"));
            }
        }
    }
    if height.is_empty() {
        faults.push("ARCHITECTURE.md has no block marked ```layers".into());
    }
    for (path, text) in under(tree, "engine/src") {
        let module_path = module_path(path.strip_prefix("engine/src/").unwrap_or(path));
        let Some(own) = module_path.first() else { continue };
        let Some(own_height) = height.get(own.as_str()) else {
            faults.push(format!("{path}: module `{own}` stands in no layer of ARCHITECTURE.md"));
            continue;
        };
        for used in used_modules(&code(text), module_path.len()) {
            let Some(used_height) = height.get(used.as_str()) else { continue };
            if used != *own && used_height >= own_height {
                let how = if used_height == own_height { "beside" } else { "above" };
                faults.push(format!("{path}: `{own}` uses `{used}`, which stands {how} it"));
            }
        }
    }
    faults
}

/// Whom a crate must not know: no runtime below the library, no wire in it, no engine in the client.
fn dependencies(tree: &Tree) -> Faults {
    let never: [(&str, &[&str]); 6] = [
        ("engine/sys", &["tokio", "engine", "engine-runtime", "engine-api"]),
        ("engine/shim", &["tokio", "libc", "rustix", "nix", "engine", "engine-sys", "engine-runtime", "engine-api"]),
        ("engine/runtime", &["tokio", "engine", "engine-api"]),
        ("engine/api", &["tokio", "hyper", "engine", "engine-sys", "engine-runtime"]),
        ("engine", &["engine-api", "engined", "enginectl", "tracing-subscriber", "clap"]),
        ("bins/enginectl", &["engine", "engine-shim", "engined"]),
    ];
    let mut faults = Faults::new();
    for (folder, unwanted) in never {
        let manifest = format!("{folder}/Cargo.toml");
        let Some(text) = tree.get(&manifest) else {
            faults.push(format!("{manifest} is not there"));
            continue;
        };
        let known = declared_dependencies(text);
        for name in unwanted.iter().filter(|name| known.contains(**name)) {
            faults.push(format!("{manifest} depends on `{name}`"));
        }
    }
    faults
}

/// Unsafe code stands in engine-sys and engine-shim; everywhere else a lint forbids it, and the text is looked at too.
fn unsafe_code(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    let workspace = tree.get("Cargo.toml").map_or("", String::as_str);
    if section(workspace, "[workspace.lints.rust]").get("unsafe_code").map(String::as_str) != Some("\"forbid\"") {
        faults.push("Cargo.toml: the workspace does not forbid unsafe_code".into());
    }
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with("Cargo.toml") && !path.starts_with("fuzz/")) {
        let folder = path.strip_suffix("/Cargo.toml").unwrap_or("");
        if UNSAFE_CRATES.contains(&folder) {
            if section(text, "[lints.clippy]").get("undocumented_unsafe_blocks").map(String::as_str) != Some("\"deny\"")
            {
                faults.push(format!("{path}: unsafe blocks need no reason there"));
            }
        } else if section(text, "[lints]").get("workspace").map(String::as_str) != Some("true") {
            faults.push(format!("{path}: does not take the workspace's lints"));
        }
    }
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let allowed = UNSAFE_CRATES.iter().any(|folder| path.starts_with(&format!("{folder}/")));
        if !allowed && words(&blank_comments(text)).any(|word| word == "unsafe") {
            faults.push(format!("{path}: unsafe code outside engine-sys and engine-shim"));
        }
    }
    faults
}

/// The library reads no environment, prints nothing, installs no logger, starts no runtime, ends no process.
fn surroundings(tree: &Tree) -> Faults {
    let unwanted = [
        ("std::env", "settings are passed in"),
        ("println!", "a library does not print"),
        ("print!", "a library does not print"),
        ("eprintln!", "a library does not print"),
        ("eprint!", "a library does not print"),
        ("dbg!", "a library does not print"),
        ("tracing_subscriber", "the program decides about logs"),
        ("tokio::runtime::Builder", "the program owns the runtime"),
        ("Runtime::new", "the program owns the runtime"),
        ("tokio::main", "the program owns the runtime"),
        ("std::process::exit", "a library does not end the program"),
    ];
    let mut faults = Faults::new();
    for folder in LIBRARIES {
        for (path, text) in under(tree, folder).filter(|(path, _)| !is_test(path)) {
            // What the program was compiled for is a constant, not a surrounding.
            let code = code(text).replace("std::env::consts", "");
            for (text, why) in unwanted {
                let alone = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let runtimes_own = text == "Runtime::new" && !code.contains("tokio::runtime");
                if !runtimes_own && code.match_indices(text).any(|(at, _)| alone(at)) {
                    faults.push(format!("{path}: `{text}`: {why}"));
                }
            }
        }
    }
    faults
}

/// Every file under `tests/` is a target of its own or a module of one, else it would silently not run.
fn forgotten_tests(tree: &Tree) -> Faults {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<String> = Vec::new();
    for (path, _) in under(tree, "tests") {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.len() == 2 || (parts.len() == 3 && parts[2] == "main.rs") {
            waiting.push(path.clone());
        }
    }
    while let Some(path) = waiting.pop() {
        if !reached.insert(path.clone()) {
            continue;
        }
        waiting.extend(declared_modules(tree, &path));
    }
    let missed = under(tree, "tests").filter(|(path, _)| !reached.contains(*path));
    missed.map(|(path, _)| format!("{path}: no test target declares it, so it never runs")).collect()
}

/// No file is longer than anyone wants to read.
fn long_files(tree: &Tree) -> Faults {
    let files = tree.iter().filter(|(path, _)| path.ends_with(".rs"));
    let long = files.map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > LONGEST_FILE);
    long.map(|(path, lines)| format!("{path}: {lines} lines; split it by meaning before {LONGEST_FILE}")).collect()
}

/// A file of a library opens by saying what it is.
fn file_heads(tree: &Tree) -> Faults {
    let files = LIBRARIES.iter().flat_map(|folder| under(tree, folder));
    let mute = files.filter(|(path, text)| !is_test(path) && !text.starts_with("//!"));
    mute.map(|(path, _)| format!("{path}: does not begin with `//!`")).collect()
}

/// Names that say nothing are not module names.
fn module_names(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    for (path, _) in tree.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let parts = path.strip_suffix(".rs").unwrap_or(path).split('/');
        if let Some(name) = parts.into_iter().find(|part| MEANINGLESS.contains(part)) {
            faults.push(format!("{path}: `{name}` says nothing; name the file after its one idea"));
        }
    }
    faults
}

/// No code that only promises.
fn unfinished(tree: &Tree) -> Faults {
    let mut faults = Faults::new();
    for (path, text) in tree.iter().filter(|(path, _)| path.ends_with(".rs")) {
        let code = blank_comments(text);
        for promise in ["todo!", "unimplemented!"] {
            if code.contains(promise) {
                faults.push(format!("{path}: `{promise}`"));
            }
        }
        if ["#[ignore", "#[should_panic"].iter().any(|attribute| code.contains(attribute)) {
            faults.push(format!("{path}: a test that is not run, or that any panic satisfies"));
        }
    }
    faults
}

// ---- reading Rust and TOML as text

fn under<'a>(tree: &'a Tree, folder: &'a str) -> impl Iterator<Item = (&'a String, &'a String)> {
    tree.iter().filter(move |(path, _)| {
        path.ends_with(".rs") && path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    })
}

/// `image/pull.rs` is `[image, pull]`, `image/mod.rs` is `[image]`, `lib.rs` is `[]`.
fn module_path(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = path.strip_suffix(".rs").unwrap_or(path).split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        parts.pop();
    }
    parts
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// Top-level modules named by `crate::x`, `crate::{x, y::z}` or as many `super::` as reach the crate's root.
fn used_modules(code: &str, depth: usize) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for prefix in ["crate::".to_owned(), "super::".repeat(depth)] {
        for (at, _) in code.match_indices(&prefix) {
            let part_of_longer =
                code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
            if prefix.is_empty() || part_of_longer {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let Some(group) = rest.strip_prefix('{') else {
                used.extend(words(rest).next().map(str::to_owned));
                continue;
            };
            let mut nested = 0;
            let mut start = true;
            for (index, c) in group.char_indices() {
                match c {
                    '{' => nested += 1,
                    '}' if nested == 0 => break,
                    '}' => nested -= 1,
                    ',' if nested == 0 => start = true,
                    c if start && nested == 0 && !c.is_whitespace() => {
                        used.extend(words(&group[index..]).next().map(str::to_owned));
                        start = false;
                    }
                    _ => {}
                }
            }
        }
    }
    used
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Files that `mod name;` in `path` means, with `#[path = "…"]` followed.
fn declared_modules(tree: &Tree, path: &str) -> Vec<String> {
    let text = tree.get(path).map_or("", String::as_str);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or("");
    let is_root = matches!(stem, "main" | "mod") || path.matches('/').count() == 1;
    let home = if is_root { folder.to_owned() } else { format!("{folder}/{stem}") };
    let mut found = Vec::new();
    let mut named_path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            named_path = rest.split('"').next().map(str::to_owned);
        } else if let Some(name) =
            line.strip_suffix(';').and_then(|line| line.rsplit_once("mod ")).map(|(_, name)| name)
        {
            match named_path.take() {
                Some(relative) => found.push(normal(&format!("{folder}/{relative}"))),
                None => found.extend([format!("{home}/{name}.rs"), format!("{home}/{name}/mod.rs")]),
            }
        }
    }
    found.retain(|file| tree.contains_key(file));
    found
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Code without comments, strings and inline test modules.
fn code(text: &str) -> String {
    let mut code = blank_comments(text);
    while let Some(at) = code.find("#[cfg(test)]") {
        let rest = &code[at..];
        let open = rest.find('{');
        let end = match (open, rest.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => {
                let mut depth = 0_usize;
                let close = rest.char_indices().skip_while(|(index, _)| *index < open).find(|(_, c)| {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    depth == 0
                });
                close.map_or(rest.len(), |(index, _)| index + 1)
            }
            (_, Some(semicolon)) => semicolon + 1,
            _ => rest.len(),
        };
        code.replace_range(at..at + end, " ");
    }
    code
}

/// Blanks comments and the insides of string and character literals.
fn blank_comments(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        let in_word = out.ends_with(|c: char| c != 'b' && (c.is_alphanumeric() || c == '_'));
        let raw_start = c == 'r' && !in_word && matches!(at(i + 1), '"' | '#');
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            while i < chars.len() {
                match (chars[i], at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if raw_start && {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            at(i + 1 + hashes) == '"'
        } {
            let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
            i += hashes + 2;
            while i < chars.len() && !(chars[i] == '"' && (1..=hashes).all(|n| at(i + n) == '#')) {
                i += 1;
            }
            i += hashes + 1;
            out.push_str("\"\"");
        } else if c == '"' {
            i += 1;
            while i < chars.len() && chars[i] != '"' {
                i += if chars[i] == '\\' { 2 } else { 1 };
            }
            i += 1;
            out.push_str("\"\"");
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i += if at(i + 1) == '\\' { 3 } else { 2 };
            while i < chars.len() && chars[i] != '\'' {
                i += 1;
            }
            i += 1;
            out.push_str("' '");
        } else {
            out.push(c);
            i += 1;
        }
    }
    out
}

/// `key = value` lines of one TOML section, with dotted keys cut at the dot.
fn section(text: &str, head: &str) -> BTreeMap<String, String> {
    let lines = text.lines().skip_while(|line| line.trim() != head).skip(1).take_while(|line| !line.starts_with('['));
    let pairs = lines.filter_map(|line| line.split('#').next()?.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// Names in every table of dependencies of a manifest, whatever its kind or target.
fn declared_dependencies(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            let head = head.trim_end_matches(']');
            inside = head.ends_with("dependencies") && !head.starts_with("workspace");
            if let Some((_, name)) = head.rsplit_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if inside
            && !line.starts_with('#')
            && let Some((key, _)) = line.split_once('=')
        {
            names.insert(key.trim().split('.').next().unwrap_or("").trim_matches('"').to_owned());
        }
    }
    names
}

// ---- each rule refuses what it is there to refuse

mod refusals {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[track_caller]
    fn check(rule: fn(&Tree) -> Faults, files: &[(&str, &str)], expected: &[&str]) {
        assert_eq!(rule(&tree(files)), expected);
    }

    const MAP: &str = "text\n```layers\ntop\nleft right\nlow\n```\n";

    #[test]
    fn layers_upward_and_sideways() {
        let upward = "//! x\nuse crate::top::Thing;\n";
        let sideways = "//! x\nuse crate::{low::A, right::{B, low}, low as l};\n";
        check(
            layers,
            &[("ARCHITECTURE.md", MAP), ("engine/src/low.rs", upward), ("engine/src/left/mod.rs", sideways)],
            &[
                "engine/src/left/mod.rs: `left` uses `right`, which stands beside it",
                "engine/src/low.rs: `low` uses `top`, which stands above it",
            ],
        );
    }

    #[test]
    fn layers_through_super() {
        let direct = "use super::top::Thing;\nuse super::super::not_ours;";
        let deep = "use super::top;\nfn f() { super::super::right::go() }";
        check(
            layers,
            &[("ARCHITECTURE.md", MAP), ("engine/src/low/mod.rs", direct), ("engine/src/left/deep.rs", deep)],
            &[
                "engine/src/left/deep.rs: `left` uses `right`, which stands beside it",
                "engine/src/low/mod.rs: `low` uses `top`, which stands above it",
            ],
        );
    }

    #[test]
    fn layers_leave_downward_tests_and_words_alone() {
        let fine = r##"//! crate::top
            use crate::low::{self, A};
            const TEXT: (&str, &str, char) = ("crate::top", r#"crate::right""#, '"');
            /* crate::top /* crate::top */ crate::top */
            fn lifetime<'a>(x: &'a str) -> &'a str { x }
            #[cfg(test)]
            mod tests { use crate::top; fn f() { if true { } } }
            #[cfg(test)] use crate::top;
        "##;
        check(layers, &[("ARCHITECTURE.md", MAP), ("engine/src/left/mod.rs", fine)], &[]);
        let after = format!("{fine}\nuse crate::top;");
        check(
            layers,
            &[("ARCHITECTURE.md", MAP), ("engine/src/left/mod.rs", &after)],
            &["engine/src/left/mod.rs: `left` uses `top`, which stands above it"],
        );
    }

    #[test]
    fn layers_without_a_place() {
        check(layers, &[("ARCHITECTURE.md", "none")], &["ARCHITECTURE.md has no block marked ```layers"]);
        check(
            layers,
            &[("ARCHITECTURE.md", MAP), ("engine/src/stray.rs", "//! x")],
            &["engine/src/stray.rs: module `stray` stands in no layer of ARCHITECTURE.md"],
        );
    }

    #[test]
    fn dependencies_in_any_table() {
        let none = "[package]\nname = \"x\"\n";
        let files = [
            ("engine/Cargo.toml", "[dependencies]\nengine-api.workspace = true\n"),
            ("engine/sys/Cargo.toml", "[target.'cfg(unix)'.dependencies]\ntokio = \"1\"\n"),
            ("engine/shim/Cargo.toml", none),
            ("engine/runtime/Cargo.toml", "[dependencies.tokio]\nversion = \"1\"\n"),
            ("engine/api/Cargo.toml", "[dependencies]\ntokio-like = \"1\"\n"),
            ("bins/enginectl/Cargo.toml", "[dev-dependencies]\nengine = { path = \"x\" }\nengine-api = \"1\"\n"),
        ];
        check(
            dependencies,
            &files,
            &[
                "engine/sys/Cargo.toml depends on `tokio`",
                "engine/runtime/Cargo.toml depends on `tokio`",
                "engine/Cargo.toml depends on `engine-api`",
                "bins/enginectl/Cargo.toml depends on `engine`",
            ],
        );
        check(
            dependencies,
            &files[..5],
            &[
                "engine/sys/Cargo.toml depends on `tokio`",
                "engine/runtime/Cargo.toml depends on `tokio`",
                "engine/Cargo.toml depends on `engine-api`",
                "bins/enginectl/Cargo.toml is not there",
            ],
        );
    }

    #[test]
    fn unsafe_outside_its_crates() {
        check(
            unsafe_code,
            &[
                ("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"warn\"\n[lints]\nworkspace = true\n"),
                ("engine/Cargo.toml", "[lints.rust]\nunsafe_code = \"allow\"\n"),
                ("engine/sys/Cargo.toml", "[lints.clippy]\nundocumented_unsafe_blocks = \"warn\"\n"),
                ("engine/src/a.rs", "// unsafe is a word\nfn f() { unsafe { g() } }"),
                ("engine/src/b.rs", "//! no unsafe here\nconst NOT_unsafe: &str = \"unsafe\";"),
                ("engine/shim/src/lib.rs", "unsafe fn f() {}"),
            ],
            &[
                "Cargo.toml: the workspace does not forbid unsafe_code",
                "engine/Cargo.toml: does not take the workspace's lints",
                "engine/sys/Cargo.toml: unsafe blocks need no reason there",
                "engine/src/a.rs: unsafe code outside engine-sys and engine-shim",
            ],
        );
    }

    #[test]
    fn surroundings_of_the_library() {
        check(
            surroundings,
            &[
                ("engine/src/a.rs", "//! std::env\nfn f() { std::env::var(\"X\"); println!(\"x\"); }"),
                ("engine/src/b.rs", "#[cfg(test)] mod tests { fn f() { println!(\"x\"); } }"),
                ("engine/src/d.rs", "const ARCH: &str = std::env::consts::ARCH;"),
                ("engine/runtime/src/c.rs", "use tokio::runtime::Builder;"),
                ("bins/engined/src/main.rs", "fn main() { println!(\"x\"); }"),
            ],
            &[
                "engine/src/a.rs: `std::env`: settings are passed in",
                "engine/src/a.rs: `println!`: a library does not print",
                "engine/runtime/src/c.rs: `tokio::runtime::Builder`: the program owns the runtime",
            ],
        );
    }

    #[test]
    fn tests_that_nothing_declares() {
        check(
            forgotten_tests,
            &[
                ("tests/one.rs", "#[path = \"support/mod.rs\"]\nmod support;\n"),
                ("tests/suite/main.rs", "mod a;\npub mod deep;"),
                ("tests/suite/a.rs", ""),
                ("tests/suite/deep/mod.rs", "mod inner;"),
                ("tests/suite/deep/inner.rs", ""),
                ("tests/suite/lost.rs", ""),
                ("tests/support/mod.rs", "mod daemon;"),
                ("tests/support/daemon.rs", ""),
                ("tests/other/lost.rs", ""),
            ],
            &[
                "tests/other/lost.rs: no test target declares it, so it never runs",
                "tests/suite/lost.rs: no test target declares it, so it never runs",
            ],
        );
    }

    #[test]
    fn long_mute_meaningless_and_unfinished_files() {
        let long = "\n".repeat(LONGEST_FILE + 1);
        check(long_files, &[("a.rs", &long), ("a.md", &long)], &["a.rs: 1001 lines; split it by meaning before 1000"]);
        let mute = [("engine/src/a.rs", "use x;"), ("engine/src/tests.rs", "use x;"), ("bins/x/src/a.rs", "use x;")];
        check(file_heads, &mute, &["engine/src/a.rs: does not begin with `//!`"]);
        check(
            module_names,
            &[("engine/src/util.rs", ""), ("engine/src/core/pull.rs", ""), ("engine/src/info_text.rs", "")],
            &[
                "engine/src/core/pull.rs: `core` says nothing; name the file after its one idea",
                "engine/src/util.rs: `util` says nothing; name the file after its one idea",
            ],
        );
        let promise = concat!("fn f() { ", "todo", "!() } // unimplemented", "!\n#[", "ignore]");
        check(
            unfinished,
            &[("a.rs", promise), ("b.rs", "// nothing")],
            &[concat!("a.rs: `todo", "!`"), "a.rs: a test that is not run, or that any panic satisfies"],
        );
    }
}
