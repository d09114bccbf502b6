//! Checkpoints: the processes of a container written to files by CRIU, and a start that goes on from there. What a container
//! has written to its disk stays where it is and is no part of a checkpoint.
//!
//! A checkpoint is a directory. It is written under a hidden name and renamed when it is whole; what a crash leaves under such a
//! name is finished or taken away by the next engine.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_runtime::criu::Noted;
use engine_runtime::{Bundle, Criu, Dump};

use super::bundle::{self, Surroundings};
use super::inventory::{Inner, Shared, blocking, not_running, uninterrupted};
use super::modes::{IpcMode, NamespaceMode, NetworkMode};
use super::record::Record;
use super::start::{Begin, log_name};
use super::status::Status;
use super::{Container, Containers, Error, WaitCondition, names};
use crate::id::ContainerId;

/// The directory of a container's checkpoints, among its files.
const DIRECTORY: &str = "checkpoints";
/// What names begin with that are being written, and those that are being taken away.
const NEW: &str = ".new-";
const OLD: &str = ".old-";
/// A name with what is put before it has to be one of a file.
const MAX_NAME: usize = 200;
/// How long the kernel may take to end what CRIU has killed.
const KILL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// How a checkpoint is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointOptions {
    /// The container goes on afterwards; otherwise it ends with 137, as if it were killed.
    pub leave_running: bool,
    /// The directory that the checkpoint is to be in, an absolute path; the container's own when none is given.
    pub directory: Option<PathBuf>,
}

impl CheckpointOptions {
    /// Sets [`CheckpointOptions::leave_running`].
    #[must_use]
    pub fn leave_running(mut self, leave_running: bool) -> Self {
        self.leave_running = leave_running;
        self
    }

    /// Sets [`CheckpointOptions::directory`].
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }
}

/// What a start goes on from.
#[derive(Clone, Debug)]
pub(super) struct Anew {
    pub(super) by: Criu,
    pub(super) images: PathBuf,
}

impl Containers {
    /// Whether there is a program here that takes checkpoints. That it gets along with this kernel shows only when it is used.
    #[must_use]
    pub fn has_checkpoints(&self) -> bool {
        criu(&self.shared).is_ok()
    }
}

impl Container {
    /// Writes its processes to a checkpoint of this name.
    ///
    /// # Errors
    /// When it does not run, has a checkpoint of this name, or CRIU is missing or cannot write it down; then there is no
    /// checkpoint, and it goes on.
    pub async fn checkpoint(&self, name: &str, options: CheckpointOptions) -> Result<(), Error> {
        let (this, name) = (self.clone(), checked(name)?.to_owned());
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.checkpoint_in_turn(&name, &options).await
        })
        .await
    }

    async fn checkpoint_in_turn(&self, name: &str, options: &CheckpointOptions) -> Result<(), Error> {
        self.owned()?;
        let (shared, inner) = (&self.shared, &self.inner);
        let record = inner.record();
        match record.state.status {
            Status::Running => {}
            Status::Paused => {
                return Err(Error::conflict(format!("Container {} is paused. Unpause it first", inner.id)));
            }
            _ => return Err(not_running(inner.id.as_str())),
        }
        let live = inner.live().ok_or_else(|| not_running(inner.id.as_str()))?;
        check(&record, options)?;
        let by = criu(shared)?;
        let directory = self.checkpoint_directory(options.directory.as_deref())?;
        if exists(&directory.join(name)) {
            return Err(Error::conflict(format!(
                "checkpoint with name {name} already exists for container {}",
                record.name
            )));
        }
        if live.catch_up().await.is_some_and(|execs| execs > 0) {
            return Err(Error::conflict(format!(
                "container {}: what exec or a health check has started runs in it, which a checkpoint would not have: try again when it has ended",
                record.name
            )));
        }
        // Whatever its policy is, it is not to be started again by itself.
        self.end_on_purpose(!options.leave_running)?;
        let over = inner.register(WaitCondition::NotRunning);
        let (work, pid, draft) = (Arc::clone(shared), live.pid, directory.join(format!("{NEW}{name}")));
        let (leave_running, place) = (options.leave_running, directory.join(name));
        let written = blocking(move || {
            write(&work, &record, &by, Draft { pid, images: &draft, leave_running })?;
            commit(&draft, &place).inspect_err(|_| {
                // That of a container that has ended is all that is left of it: the next engine finishes it.
                if leave_running {
                    let _ = remove(&draft);
                }
            })
        })
        .await;
        if let Err(error) = written {
            self.end_on_purpose(false)?;
            return Err(error);
        }
        if !options.leave_running {
            let late = |_| Error::Internal(format!("container {} did not end after its checkpoint", inner.id));
            // An engine that is closed meanwhile leaves its end to the next one.
            let _ = tokio::time::timeout(KILL_TIMEOUT, over).await.map_err(late)?;
            match inner.settle().await {
                Err(Error::NoSuchContainer(_)) => {}
                settled => settled?,
            }
        }
        shared.tell(&inner.record(), "checkpoint", &[]);
        Ok(())
    }

    fn end_on_purpose(&self, on_purpose: bool) -> Result<(), Error> {
        if self.inner.record().state.stopped_on_purpose != on_purpose {
            self.inner.change(&self.shared, |record| {
                let mut record = record.clone();
                record.state.stopped_on_purpose = on_purpose;
                Ok(record)
            })?;
        }
        Ok(())
    }

    /// The names of its checkpoints, or of those in another directory, in the order of the alphabet.
    ///
    /// # Errors
    /// When the directory is no absolute path, or cannot be read.
    pub async fn checkpoints(&self, directory: Option<&Path>) -> Result<Vec<String>, Error> {
        let directory = self.checkpoint_directory(directory)?;
        blocking(move || list(&directory)).await
    }

    /// Takes a checkpoint away.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn remove_checkpoint(&self, name: &str, directory: Option<&Path>) -> Result<(), Error> {
        let (this, name) = (self.clone(), checked(name)?.to_owned());
        let directory = self.checkpoint_directory(directory)?;
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            this.owned()?;
            let old = directory.join(format!("{OLD}{name}"));
            let images = this.images(&directory, &name)?;
            blocking(move || {
                remove(&old)?;
                fs::rename(&images, &old).map_err(|error| Error::io("rename", &images, error))?;
                remove(&old)
            })
            .await
        })
        .await
    }

    /// Starts it from a checkpoint. Returns when its processes go on.
    ///
    /// # Errors
    /// As [`Container::start`], when there is no checkpoint of this name, and when CRIU is missing or cannot make the processes
    /// anew.
    pub async fn start_from(&self, checkpoint: &str, directory: Option<&Path>) -> Result<(), Error> {
        let (this, name) = (self.clone(), checked(checkpoint)?.to_owned());
        let directory = self.checkpoint_directory(directory)?;
        uninterrupted(async move {
            let _turn = this.inner.lifecycle.lock().await;
            let record = this.inner.record();
            if !record.state.status.has_process() {
                check(&record, &CheckpointOptions::default().leave_running(true))?;
            }
            let anew = Anew { by: criu(&this.shared)?, images: this.images(&directory, &name)? };
            this.inner.set_ticket(None);
            this.start_in_turn(Begin::Asked, Some(anew)).await
        })
        .await
    }

    fn checkpoint_directory(&self, asked: Option<&Path>) -> Result<PathBuf, Error> {
        match asked.filter(|path| !path.as_os_str().is_empty()) {
            None => Ok(self.directory().join(DIRECTORY)),
            Some(path) if path.is_absolute() => Ok(path.to_owned()),
            Some(path) => Err(Error::invalid(format!("the directory of checkpoints, {path:?}, is no absolute path"))),
        }
    }

    fn images(&self, directory: &Path, name: &str) -> Result<PathBuf, Error> {
        let images = directory.join(name);
        if exists(&images) {
            return Ok(images);
        }
        Err(Error::NoSuchCheckpoint { checkpoint: name.to_owned(), container: self.name() })
    }
}

fn checked(name: &str) -> Result<&str, Error> {
    match names::checked(name) {
        Ok(found) if found == name && name.len() <= MAX_NAME => Ok(name),
        _ => Err(Error::invalid(format!(
            "Invalid checkpoint ID ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
            name.chars().take(MAX_NAME).collect::<String>()
        ))),
    }
}

fn criu(shared: &Shared) -> Result<Criu, Error> {
    Ok(Criu::new(shared.parts.settings.criu.as_str()).found()?)
}

/// Refuses what is known not to work, before anything is done.
fn check(record: &Record, options: &CheckpointOptions) -> Result<(), Error> {
    let host = &record.config.host;
    let refused = [
        (record.outside.is_some(), "that the OCI runtime of its own has made: ask that runtime"),
        (record.config.tty, "with a terminal"),
        (host.init == Some(true), "with an init of the engine's (--init)"),
        (!host.device_requests.is_empty(), "with devices by CDI"),
        (
            matches!(host.pid_mode, NamespaceMode::Host | NamespaceMode::Container(_)),
            "whose pid namespace is not its own",
        ),
        (matches!(host.ipc_mode, IpcMode::Container(_)), "with the shared memory of another one"),
    ];
    if let Some((_, what)) = refused.into_iter().find(|(set, _)| *set) {
        return Err(Error::unsupported(format!("checkpoints of a container {what}")));
    }
    if host.auto_remove && !options.leave_running && options.directory.is_none() {
        return Err(Error::invalid(format!(
            "container {} is removed when it ends, and its checkpoints with it: leave it running, or name another directory",
            record.name
        )));
    }
    Ok(())
}

struct Draft<'a> {
    pid: u32,
    images: &'a Path,
    leave_running: bool,
}

/// Has the container written down; what fails leaves nothing.
fn write(shared: &Shared, record: &Record, by: &Criu, draft: Draft<'_>) -> Result<(), Error> {
    let bundle = bundle_of(shared, record)?;
    let Draft { pid, images, leave_running } = draft;
    if let Some(parent) = images.parent() {
        make(parent, true)?;
    }
    // One of an engine that died.
    remove(images)?;
    make(images, false)?;
    let written = shared.parts.runtime.checkpoint(by, &Dump { bundle: &bundle, pid, images, leave_running });
    let whole = match written {
        Ok(()) if Noted::is_complete(images) => return Ok(()),
        Ok(()) => Error::Internal(format!("{} dump has written no checkpoint", by.program)),
        Err(error) => error.into(),
    };
    remove(images)?;
    Err(whole)
}

/// A checkpoint is there when everything of it is on the disk.
fn commit(draft: &Path, place: &Path) -> Result<(), Error> {
    let synced = File::open(draft).and_then(|draft| Ok(rustix::fs::syncfs(draft)?));
    synced.map_err(|error| Error::io("sync", draft, error))?;
    fs::rename(draft, place).map_err(|error| Error::io("rename", draft, error))?;
    let parent = place.parent().unwrap_or(place);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| Error::io("sync", parent, error))
}

/// What the container was launched as, without what had to be looked up for that.
fn bundle_of(shared: &Shared, record: &Record) -> Result<Bundle, Error> {
    let directory = shared.directory(&record.id);
    let files = match &record.config.host.network_mode {
        NetworkMode::Container(other) => {
            let other: ContainerId = other.parse().map_err(|_| Error::NoSuchContainer(other.clone()))?;
            shared.directory(&other)
        }
        _ => directory.clone(),
    };
    let around = Surroundings {
        host: shared.parts.runtime.host(),
        overlay: shared.parts.snapshots.of(&record.id, &record.layers),
        files,
        log_directory: directory,
        log_name: log_name(&record.id),
        network_of: matches!(record.config.host.network_mode, NetworkMode::Container(_)).then_some(record.state.pid),
        pid_of: None,
        ipc_of: None,
        devices: super::devices::Devices::default(),
        no_new_privileges: false,
        variables: Vec::new(),
        wait_for_start: false,
    };
    bundle::bundle(record, around)
}

fn exists(images: &Path) -> bool {
    images.symlink_metadata().is_ok_and(|found| found.is_dir())
}

fn make(directory: &Path, with_parents: bool) -> Result<(), Error> {
    let made = DirBuilder::new().mode(0o700).recursive(with_parents).create(directory);
    made.map_err(|error| Error::io("make", directory, error))
}

fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", directory, error)),
        _ => Ok(()),
    }
}

fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = entries(directory)?
        .into_iter()
        .filter(|name| checked(name).is_ok() && Noted::is_complete(&directory.join(name)))
        .collect();
    names.sort();
    Ok(names)
}

/// Names that are none of ours may be anything, and are passed over.
fn entries(directory: &Path) -> Result<Vec<String>, Error> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", directory, error)),
    }
}

/// Ends what an engine that is gone has begun: a checkpoint that CRIU has finished is kept when the container was to end with it,
/// since it has; any other is taken away, at which CRIU gives up and the container goes on.
pub(super) fn recover(shared: &Shared, inner: &Inner) -> Result<(), Error> {
    let directory = shared.directory(&inner.id).join(DIRECTORY);
    for entry in entries(&directory)? {
        let path = directory.join(&entry);
        match entry.strip_prefix(NEW) {
            Some(name) if Noted::is_complete(&path) && Noted::read(&path).is_ok_and(|noted| noted.exit) => {
                commit(&path, &directory.join(name))?;
            }
            Some(_) => {
                remove(&path)?;
                inner.change(shared, |record| {
                    let mut record = record.clone();
                    record.state.stopped_on_purpose &= !record.state.status.has_process();
                    Ok(record)
                })?;
            }
            None if entry.starts_with(OLD) => remove(&path)?,
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["c1", "before-upgrade", "a_b.c", &"x".repeat(MAX_NAME)] {
            assert_eq!(checked(good).unwrap(), good);
        }
        for bad in ["", "x", "/ab", "..", ".new-ab", "a/b", "../ab", "a\0b", "a b", &"x".repeat(MAX_NAME + 1)] {
            let error = checked(bad).unwrap_err().to_string();
            assert!(error.starts_with("Invalid checkpoint ID ("), "{error}");
        }
    }

    #[test]
    fn only_whole_checkpoints_are_listed() {
        let place = tempfile::tempdir().unwrap();
        assert!(list(&place.path().join("none")).unwrap().is_empty());
        for (name, image) in [("whole", "x"), ("also", "x"), ("empty", ""), (".new-half", "x"), (".old-gone", "x")] {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("inventory.img"), image).unwrap();
        }
        fs::create_dir(place.path().join("nothing")).unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        assert_eq!(list(place.path()).unwrap(), ["also", "whole"]);
    }

    #[test]
    fn a_checkpoint_moves_into_place() {
        let place = tempfile::tempdir().unwrap();
        let draft = place.path().join(".new-ab");
        make(&draft, false).unwrap();
        fs::write(draft.join("x"), "y").unwrap();
        commit(&draft, &place.path().join("ab")).unwrap();
        assert_eq!(fs::read_to_string(place.path().join("ab/x")).unwrap(), "y");
        assert!(!exists(&draft) && exists(&place.path().join("ab")));
        std::os::unix::fs::symlink("ab", place.path().join("link")).unwrap();
        assert!(!exists(&place.path().join("link")));
        remove(&place.path().join("ab")).unwrap();
        remove(&place.path().join("ab")).unwrap();
        assert!(commit(&draft, &place.path().join("cd")).is_err());
    }
}
