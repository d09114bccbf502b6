//! `enginectl cp`.

use std::fs;
use std::io::{self, IsTerminal, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine_api::archive::{GoMode, PATH_STAT, PathStat};
use http::{Method, Response};
use hyper::body::Incoming;

use super::path;
use crate::archive::{self, Passed, Renamed, Source};
use crate::client::{Client, Payload, Query, whole};
use crate::error::Error;
use crate::output::size;
use crate::session::{Session, duplicate};

/// Copy files between a container and this machine
///
/// One of the two is CONTAINER:PATH, the other a path here, or - for a tar archive on standard input or output. A path
/// that ends in /. stands for what is in the directory.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Give what is copied in to the container's user
    #[arg(short = 'a', long)]
    archive: bool,
    /// Copy what a link at the source leads to, not the link
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say how much was copied
    #[arg(short = 'q', long)]
    quiet: bool,
    /// From where
    #[arg(value_name = "SOURCE")]
    source: String,
    /// To where
    #[arg(value_name = "DESTINATION")]
    destination: String,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let passed = Passed::default();
    match (Place::read(&args.source), Place::read(&args.destination)) {
        (Place::Container(..), Place::Container(..)) => {
            return Err(Error::Invalid("copying between containers is not supported".to_owned()));
        }
        (Place::Here(_), Place::Here(_)) => {
            return Err(Error::Invalid("must specify at least one container source".to_owned()));
        }
        (Place::Container(container, from), Place::Here(to)) => {
            copy_out(&args, session, (&container, &from), &to, &passed).await?;
        }
        (Place::Here(from), Place::Container(container, to)) => {
            copy_in(&args, session, &from, (&container, &to), &passed).await?;
        }
    }
    if !args.quiet && args.destination != "-" && session.io.stderr.is_terminal() {
        session.complain(format!("Successfully copied {} to {}", size::decimal(passed.bytes()), args.destination));
    }
    Ok(0)
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A path here, or `-`.
    Here(String),
    /// A container and a path in it.
    Container(String, String),
}

impl Place {
    /// A path here that has a colon begins with `/` or `.`.
    fn read(text: &str) -> Self {
        match text.split_once(':') {
            Some((container, path))
                if !text.starts_with('/') && !container.starts_with('.') && !container.is_empty() =>
            {
                Self::Container(container.to_owned(), path.to_owned())
            }
            _ => Self::Here(text.to_owned()),
        }
    }
}

/// What the last name of a path says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ending {
    /// Everything before the last name.
    parent: String,
    /// The last name; `.` when all of a directory is meant.
    base: String,
    /// A directory is meant.
    directory: bool,
}

impl Ending {
    fn of(path: &str) -> Self {
        let contents = path == "." || path.ends_with("/.");
        let directory = contents || path.ends_with('/');
        let clean = clean(path);
        if contents {
            return Self { parent: clean, base: ".".to_owned(), directory };
        }
        match clean.rsplit_once('/') {
            Some(("", "")) => Self { parent: clean, base: "/".to_owned(), directory: true },
            Some(("", base)) => Self { parent: "/".to_owned(), base: base.to_owned(), directory },
            Some((parent, base)) => Self { parent: parent.to_owned(), base: base.to_owned(), directory },
            None => Self { parent: ".".to_owned(), base: clean, directory },
        }
    }
}

/// Without doubled slashes, `.` and, as far as that can be told, `..`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if path.starts_with('/') {
        format!("/{joined}")
    } else if joined.is_empty() {
        ".".to_owned()
    } else {
        joined
    }
}

/// What is at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    File,
    Directory,
}

/// Where a copy goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// The directory that the archive is unpacked in.
    directory: String,
    /// What the first entry is called; without a name, what is in it goes into the directory.
    name: Option<String>,
}

/// Docker's rules: `base` is the last name of the source, `path` the destination.
fn target(base: &str, source_is_directory: bool, path: &str, there: There) -> Result<Target, Error> {
    let ending = Ending::of(path);
    match there {
        There::Directory => {
            let name = (!matches!(base, "." | "/")).then(|| base.to_owned());
            Ok(Target { directory: path.to_owned(), name })
        }
        There::File if source_is_directory => Err(Error::Invalid("cannot copy directory".to_owned())),
        There::Nothing if ending.directory && !source_is_directory => {
            Err(Error::Invalid("no such directory".to_owned()))
        }
        There::File | There::Nothing => {
            // `new/.` is the directory `new`, which is made.
            let ending = if ending.base == "." { Ending::of(&ending.parent) } else { ending };
            Ok(Target { directory: ending.parent, name: Some(ending.base) })
        }
    }
}

async fn copy_out(
    args: &Args,
    session: &mut Session,
    (container, from): (&str, &str),
    to: &str,
    passed: &Passed,
) -> Result<(), Error> {
    let client = session.client()?;
    let mut from = from.to_owned();
    let mut base = Ending::of(&from).base;
    if args.follow_link {
        let stat = stat(&client, container, &from).await?;
        if GoMode(stat.mode).is_symlink() && !stat.link_target.is_empty() {
            from = if stat.link_target.starts_with('/') {
                stat.link_target
            } else {
                format!("{}/{}", Ending::of(&from).parent, stat.link_target)
            };
        }
    } else if base == ".." {
        base = Ending::of(&clean(&format!("/{from}"))).base;
    }
    let endpoint = path(container, "/archive");
    let query = Query::new().with("path", &from);
    if to == "-" {
        let response = client.request(Method::GET, &endpoint, &query, Payload::Empty).await?;
        let mut out = duplicate(&session.io.stdout)?;
        return archive::read(&endpoint, response.into_body(), passed, move |archive| {
            io::copy(archive, &mut out).map(drop).map_err(Error::io("write to standard output"))
        })
        .await;
    }
    let (to, there) = resolve_destination(to)?;
    let response = client.request(Method::GET, &endpoint, &query, Payload::Empty).await?;
    let stat = stat_of(&endpoint, &response)?;
    let target = target(&base, GoMode(stat.mode).is_directory(), &to, there)?;
    // Entries of the root have no name of their own to begin with.
    let names = Renamed { from: Some(stat.name).filter(|name| name != "/"), to: target.name };
    archive::read(&endpoint, response.into_body(), passed, move |archive| {
        archive::unpack(archive, Path::new(&target.directory), &names)
    })
    .await
}

/// A destination here with its links followed, and what is there.
fn resolve_destination(path: &str) -> Result<(String, There), Error> {
    let ending = Ending::of(path);
    let mut at = PathBuf::from(path);
    for _ in 0..10 {
        match fs::metadata(&at) {
            Ok(found) if found.is_dir() => return Ok((text(&at)?, There::Directory)),
            Ok(_) if ending.directory => {
                return Err(Error::Invalid(format!("{path}: not a directory")));
            }
            Ok(found) => {
                if !found.is_file() {
                    let text = format!("invalid output path: {path:?} must be a directory or a regular file");
                    return Err(Error::Invalid(text));
                }
                let real = fs::canonicalize(&at).map_err(Error::io(format!("look at {path}")))?;
                return Ok((text(&real)?, There::File));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A link to nothing: what it names is made.
                let Ok(target) = fs::read_link(&at) else { break };
                at = at.parent().unwrap_or(Path::new("")).join(target);
            }
            Err(error) => return Err(Error::io(format!("look at {path}"))(error)),
        }
    }
    let parent = match Ending::of(&text(&at)?) {
        ending if ending.base == "." => Ending::of(&ending.parent).parent,
        ending => ending.parent,
    };
    if !Path::new(&parent).is_dir() {
        return Err(Error::Invalid(format!("invalid output path: directory {parent:?} does not exist")));
    }
    let mut shown = text(&at)?;
    if ending.directory && !shown.ends_with('/') {
        shown.push('/');
    }
    Ok((shown, There::Nothing))
}

fn text(path: &Path) -> Result<String, Error> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Invalid(format!("{}: a name that is no UTF-8 text is not supported", path.display())))
}

async fn copy_in(
    args: &Args,
    session: &mut Session,
    from: &str,
    (container, to): (&str, &str),
    passed: &Passed,
) -> Result<(), Error> {
    let client = session.client()?;
    let endpoint = path(container, "/archive");
    let mut to = to.to_owned();
    let mut found = stat(&client, container, &to).await;
    if let Ok(link) = &found
        && GoMode(link.mode).is_symlink()
    {
        to = if link.link_target.starts_with('/') {
            link.link_target.clone()
        } else {
            format!("{}/{}", Ending::of(&to).parent, link.link_target)
        };
        found = stat(&client, container, &to).await;
    }
    let there = match &found {
        Ok(stat) if GoMode(stat.mode).is_directory() => There::Directory,
        Ok(_) => There::File,
        Err(_) => There::Nothing,
    };
    let (directory, body) = if from == "-" {
        if there != There::Directory {
            return Err(Error::Invalid(format!("destination \"{container}:{to}\" must be a directory")));
        }
        let mut input = duplicate(&session.io.stdin)?;
        let body = archive::body(passed.clone(), move |out| {
            let mut buffer = vec![0; 256 << 10];
            loop {
                match input.read(&mut buffer) {
                    Ok(0) => return out.flush(),
                    Ok(read) => out.write_all(&buffer[..read])?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        })?;
        (to, body)
    } else {
        let (source, base, is_directory) = resolve_source(from, args.follow_link)?;
        let target = target(&base, is_directory, &to, there)?;
        let source = Source { path: source, name: target.name };
        (target.directory, archive::body(passed.clone(), move |out| archive::pack(&source, out))?)
    };
    let query = Query::new().with("path", &directory).with("noOverwriteDirNonDir", "true");
    let query = if args.archive { query.with("copyUIDGID", "true") } else { query };
    let response = client.request(Method::PUT, &endpoint, &query, Payload::Stream("application/x-tar", body)).await?;
    whole(&endpoint, response).await?;
    Ok(())
}

/// A source here: what is packed, its last name, and whether it is a directory.
fn resolve_source(path: &str, follow: bool) -> Result<(PathBuf, String, bool), Error> {
    let ending = Ending::of(path);
    let failed = || Error::io(format!("lstat {path}"));
    let real = if follow || ending.directory { fs::canonicalize(path).map_err(failed())? } else { PathBuf::from(path) };
    let found = fs::symlink_metadata(&real).map_err(failed())?;
    if ending.directory && !found.is_dir() {
        return Err(Error::Invalid(format!("lstat {path}: not a directory")));
    }
    let base = if ending.base == ".." {
        let whole = fs::canonicalize(path).map_err(failed())?;
        whole.file_name().map_or("/".to_owned(), |name| name.to_string_lossy().into_owned())
    } else {
        ending.base
    };
    Ok((real, base, found.is_dir()))
}

async fn stat(client: &Client, container: &str, at: &str) -> Result<PathStat, Error> {
    let endpoint = path(container, "/archive");
    let query = Query::new().with("path", at);
    let response = client.request(Method::HEAD, &endpoint, &query, Payload::Empty).await?;
    stat_of(&endpoint, &response)
}

fn stat_of(endpoint: &str, response: &Response<Incoming>) -> Result<PathStat, Error> {
    let read = || {
        let text = response.headers().get(PATH_STAT)?.as_bytes();
        engine_api::json::from_slice(&STANDARD.decode(text).ok()?).ok()
    };
    read().ok_or_else(|| Error::Protocol(format!("the answer of {endpoint} does not say what the path is")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let container = |name: &str, path: &str| Place::Container(name.to_owned(), path.to_owned());
        for (text, place) in [
            ("web:/etc", container("web", "/etc")),
            ("web:etc", container("web", "etc")),
            ("web:", container("web", "")),
            ("/a:b", Place::Here("/a:b".to_owned())),
            ("./a:b", Place::Here("./a:b".to_owned())),
            ("file", Place::Here("file".to_owned())),
            ("-", Place::Here("-".to_owned())),
        ] {
            assert_eq!(Place::read(text), place, "{text}");
        }
    }

    #[test]
    fn names_follow_dockers_rules() {
        let to = |base: &str, is_directory, path: &str, there| {
            target(base, is_directory, path, there)
                .map(|target| (target.directory, target.name.unwrap_or_default()))
                .map_err(|error| error.to_string())
        };
        let ok = |directory: &str, name: &str| Ok((directory.to_owned(), name.to_owned()));
        use There::{Directory, File, Nothing};
        for (base, is_directory, path, there, expected) in [
            ("f", false, "/to", Directory, ok("/to", "f")),
            ("d", true, "/to/", Directory, ok("/to/", "d")),
            (".", true, "/to", Directory, ok("/to", "")),
            ("f", false, "/to/g", File, ok("/to", "g")),
            ("f", false, "g", Nothing, ok(".", "g")),
            ("d", true, "/to/new", Nothing, ok("/to", "new")),
            ("d", true, "/to/new/", Nothing, ok("/to", "new")),
            (".", true, "/to/new/.", Nothing, ok("/to", "new")),
            ("f", false, "/to/new/", Nothing, Err("no such directory".to_owned())),
            ("d", true, "/to/g", File, Err("cannot copy directory".to_owned())),
        ] {
            assert_eq!(to(base, is_directory, path, there), expected, "{base} {path}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, cleaned) in
            [("/a//b/./c/..", "/a/b"), ("/..", "/"), ("../a", "../a"), ("", "."), ("a/..", "."), ("a/../..", "..")]
        {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        assert_eq!(Ending::of("/a/b/.").base, ".");
        assert_eq!(Ending::of("/").base, "/");
    }
}
