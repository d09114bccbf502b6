//! Power is lost at any moment of a load and of a pull: what was written since the last sync is there, or torn, or not there at
//! all, each by the throw of a coin. Whatever of that is legal is played through, and no image that is there has lost a byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::CTL;
use crate::disks::{Tracer, archive, calls, target};
use crate::images::{REMOTE, assert_sound};
use crate::support::daemon::Daemon;
use crate::support::registry::{Registry, Setup};

/// How often power is lost in each of them.
const LOSSES: usize = 10;
const STORES: [&str; 2] = ["layers", "blobs/sha256"];

/// What happened, in the order in which it had happened.
#[derive(Debug, Default)]
struct Recorded {
    /// How many calls there were.
    calls: usize,
    /// Of each thing that got its name: the last time that something was written to it, and when it got the name.
    things: BTreeMap<String, (usize, usize)>,
    /// When everything was synced.
    syncs: Vec<usize>,
    /// When the names of a store were synced.
    names: Vec<(usize, String)>,
    /// When the state was written after the first name, and when it was synced for the last time.
    written: Option<usize>,
    committed: usize,
}

fn recorded(trace: &str, root: &str) -> Recorded {
    let mut found = Recorded::default();
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for (at, (name, line)) in calls(trace).into_iter().enumerate() {
        found.calls = at + 1;
        let path = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(path, _)| path);
        let Some(path) = path.strip_prefix(root).map(|path| path.trim_start_matches('/')) else {
            if name == "syncfs" && line.ends_with("= 0") {
                found.syncs.push(at);
            }
            continue;
        };
        let store = STORES.iter().find(|store| path.starts_with(**store));
        match (name.as_str(), store) {
            ("syncfs", _) if line.ends_with("= 0") => found.syncs.push(at),
            ("renameat" | "renameat2", Some(store)) if !target(&line).starts_with(".tmp-") => {
                let from = line.split('"').nth(1).unwrap_or_default();
                let written = last.get(&format!("{store}/{from}")).copied().unwrap_or(0);
                found.things.insert(format!("{store}/{}", target(&line)), (written, at));
            }
            ("fsync", Some(store)) if line.ends_with("= 0") => found.names.push((at, (*store).to_owned())),
            // The thing is what stands right beneath the store.
            (_, Some(store)) => {
                if let Some(thing) = path[store.len()..].trim_start_matches('/').split('/').next() {
                    last.insert(format!("{store}/{thing}"), at);
                }
            }
            ("pwrite64", None) if path.starts_with("engine.db") && !found.things.is_empty() => {
                found.written.get_or_insert(at);
            }
            ("fdatasync" | "fsync", None) if path.starts_with("engine.db") => found.committed = at,
            _ => {}
        }
    }
    found
}

/// Throws that are the same each time.
struct Coin(u64);

impl Coin {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn heads(&mut self) -> bool {
        self.below(2) == 0
    }
}

fn copy(from: &Path, to: &Path) {
    let said = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

/// Takes away the end of files, or all of it, as the coin says.
fn tear(path: &Path, coin: &mut Coin) {
    let about = path.symlink_metadata().unwrap();
    if about.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for entry in entries {
            tear(&entry, coin);
        }
    } else if about.is_file() && coin.heads() {
        let length = if coin.heads() { 0 } else { about.len() / 2 };
        fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap();
    }
}

/// What is on the disk when power is lost after the first `moment` calls: whether the state says that the image is there, and
/// how many things are torn or without a name.
fn lose(before: &Path, after: &Path, found: &Recorded, moment: usize, root: &Path, coin: &mut Coin) -> (bool, usize) {
    fs::remove_dir_all(root).unwrap();
    copy(before, root);
    let synced = |since: usize| found.syncs.iter().any(|sync| (since..moment).contains(sync));
    let mut harmed = 0;
    for (thing, (written, named)) in &found.things {
        if *written >= moment || root.join(thing).exists() {
            continue;
        }
        let store = STORES.iter().find(|store| thing.starts_with(**store)).unwrap();
        let is_named = |(at, of): &(usize, String)| of == store && (*named..moment).contains(at);
        let has_name = *named < moment && (synced(*named) || found.names.iter().any(is_named) || coin.heads());
        let path =
            if has_name { root.join(thing) } else { root.join(format!("{store}/.tmp-{:016x}", coin.below(1 << 40))) };
        if !has_name && coin.heads() {
            continue;
        }
        copy(&after.join(thing), &path);
        let is_whole = synced(*written);
        if !is_whole {
            tear(&path, coin);
        }
        harmed += usize::from(!is_whole || !has_name);
    }
    let is_committed =
        moment > found.committed || (found.written.is_some_and(|written| written < moment) && coin.heads());
    if is_committed {
        for file in ["engine.db", "engine.db-wal"] {
            let _ = fs::remove_file(root.join(file));
            if after.join(file).exists() {
                copy(&after.join(file), &root.join(file));
            }
        }
        let _ = fs::remove_file(root.join("engine.db-shm"));
    }
    (is_committed, harmed)
}

/// What stands in the stores.
fn stored(root: &Path) -> BTreeSet<String> {
    let names = |store: &&str| {
        let names =
            fs::read_dir(root.join(store)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| format!("{store}/{name}")).collect::<Vec<_>>()
    };
    STORES.iter().flat_map(names).collect()
}

fn is_whole_or_absent(daemon: &mut Daemon, before: &Path, command: &[&str], coin: &mut Coin) {
    let (after, output) = (daemon.home().join("after"), daemon.home().join("trace"));
    let traced = "trace=write,writev,pwrite64,pwritev,copy_file_range,ftruncate,fallocate,mkdirat,linkat,symlinkat,mknodat,\
                  utimensat,fchmod,fchown,fchownat,fsetxattr,renameat,renameat2,fsync,fdatasync,syncfs";
    let tracer = Tracer::attach(daemon, &["-y", "-s", "0", "-e", traced], &output);
    CTL.run(daemon, command).ok();
    tracer.detach();
    daemon.kill();
    let root = daemon.root().canonicalize().unwrap();
    copy(&root, &after);
    let found = recorded(&fs::read_to_string(&output).unwrap(), root.to_str().unwrap());
    // Everything that came is seen, and when it came.
    let came: BTreeSet<String> = stored(&after).difference(&stored(before)).cloned().collect();
    assert_eq!(found.things.keys().cloned().collect::<BTreeSet<_>>(), came);
    assert!(found.committed > 0 && found.written.is_some(), "{found:?}");
    let first = found.things.values().map(|(written, _)| *written).min().unwrap();
    let (mut there, mut absent, mut harm) = (0, 0, 0);
    for round in 0..LOSSES {
        // Mostly at the end, where names and the state are written.
        let from = if round % 3 == 0 { first } else { found.things.values().map(|(_, named)| *named).min().unwrap() };
        let moment = match round {
            // Once after everything, so that there is an image in any case, and once before anything.
            0 => found.calls,
            1 => first,
            _ => from + coin.below(found.calls + 1 - from),
        };
        let (is_committed, harmed) = lose(before, &after, &found, moment, &root, coin);
        harm += harmed;
        daemon.begin();
        let what = format!("{command:?}, power lost after {moment} of {} calls", found.calls);
        assert_sound(daemon, round, &what);
        let listed = CTL.run(daemon, &["images", "-q", REMOTE]).ok();
        assert_eq!(is_committed, !listed.is_empty(), "{what}");
        *(if is_committed { &mut there } else { &mut absent }) += 1;
        CTL.run(daemon, command).ok();
        assert_sound(daemon, round, &what);
        daemon.kill();
    }
    assert!(
        there > 0 && absent > 0 && harm > 0,
        "{there} there, {absent} absent, {harm} harmed: too few to show anything"
    );
    // What is not legal is seen: an image whose layer is torn.
    fs::remove_dir_all(&root).unwrap();
    copy(&after, &root);
    let layer = came.iter().find(|thing| thing.starts_with("layers/") && !thing.ends_with(".framing")).unwrap();
    fs::write(
        root.join(layer)
            .join(fs::read_dir(root.join(layer)).unwrap().next().unwrap().unwrap().file_name())
            .join("large"),
        "",
    )
    .unwrap();
    daemon.begin();
    CTL.run(daemon, &["system", "check"]).code(1);
    daemon.kill();
    fs::remove_dir_all(&root).unwrap();
    fs::remove_dir_all(&after).unwrap();
    copy(before, &root);
    daemon.begin();
}

#[test]
fn no_image_has_lost_a_byte_when_power_is_lost() {
    let mut daemon = Daemon::with_busybox();
    let _registry = Registry::empty(&daemon, &Setup::default());
    let archive = archive(&daemon);
    let load = ["load", "-i", archive.to_str().unwrap()];
    CTL.run(&daemon, &load).ok();
    CTL.run(&daemon, &["push", REMOTE]).ok();
    CTL.run(&daemon, &["rmi", "-f", REMOTE]).ok();
    assert_sound(&daemon, 0, "before all");
    daemon.stop();
    let before = daemon.home().join("before");
    copy(&daemon.root(), &before);
    daemon.begin();
    let mut coin = Coin(0x005e_ed0f_b10c);
    is_whole_or_absent(&mut daemon, &before, &load, &mut coin);
    is_whole_or_absent(&mut daemon, &before, &["pull", REMOTE], &mut coin);
    daemon.finish();
}
