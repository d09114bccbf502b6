//! The file system of a container: its root, what is mounted into it, and what is hidden of it.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine_shim::plan::{Op, Slot};
use oci_spec::runtime::{Linux, Spec};

use super::attributes::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, RDONLY};
use super::devices;
use super::mounts::{Planned, clean};
use super::namespaces::Namespaces;
use super::writer::Writer;
use crate::cgroup::Places;
use crate::{Bundle, Error, Host, Rootfs};

/// The longest value that `fsconfig` takes.
const MAX_VALUE: usize = 255;
/// The longest options that `mount` takes: a page with a NUL.
const MAX_OPTIONS: usize = 4095;

/// The root file system and the mounts of a container, on the way from one to the other.
pub(super) struct Files<'a> {
    root: Slot,
    mounts: Vec<Planned<'a>>,
    /// Device nodes of the host, for where none can be made.
    nodes: Option<Vec<(String, Slot)>>,
    /// Where the root is put when others are in the mount namespace.
    shared_at: Option<&'a Path>,
}

/// Writes what has to be done before namespaces are entered: in a user namespace much of the host is out of reach, and once
/// mounts are slaves nothing can be shared with it any more.
pub(super) fn prepare<'a>(
    plan: &mut Writer,
    bundle: &'a Bundle,
    linux: &Linux,
    host: &Host,
    cgroup: &Places,
    namespaces: &Namespaces,
) -> Result<Files<'a>, Error> {
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    let all_early = namespaces.has_user() || namespaces.shares_mounts();
    let mut mounts = mounts.iter().map(|mount| Planned::of(mount, host, namespaces)).collect::<Result<Vec<_>, _>>()?;
    let label = linux.mount_label().as_deref().unwrap_or_default();
    if !label.is_empty() && !host.features.selinux {
        return Err(Error::Unsupported(format!("the SELinux label {label:?} of mounts; this kernel has no SELinux")));
    }
    for mount in &mut mounts {
        mount.label(label);
        mount.take(plan, &bundle.trees);
        mount.clone_early(plan, all_early, cgroup)?;
    }
    // From here on nothing that is mounted reaches the host.
    plan.push(Op::Propagation { flags: MS_SLAVE | MS_REC });
    for mount in &mut mounts {
        mount.make_early(plan, host, namespaces);
    }
    let shared_at = match (&bundle.rootfs, namespaces.shares_mounts()) {
        (_, false) => None,
        (Rootfs::Directory(path), true) => Some(path.as_path()),
        (Rootfs::Overlay { .. }, true) => {
            return Err(Error::Unsupported("an overlay as the root in a mount namespace to join".to_owned()));
        }
    };
    let root = root(plan, &bundle.rootfs, linux, host)?;
    // Who brings a /dev brings all of it.
    let brings = mounts.iter().any(|mount| mount.destination == "/dev" && mount.is_bind());
    let nodes = match (brings, namespaces.has_user()) {
        (false, true) => Some(devices::clone(plan, linux)?),
        (true, true) => Some(Vec::new()),
        (_, false) => None,
    };
    Ok(Files { root, mounts, nodes, shared_at })
}

impl Files<'_> {
    /// Writes what happens in the namespaces.
    pub(super) fn assemble(self, plan: &mut Writer, linux: &Linux, host: &Host, cgroup: &Places) -> Result<(), Error> {
        let slot = self.root;
        match self.shared_at {
            Some(path) => plan.with_text(path.as_os_str().as_bytes(), |path| Op::RootAt { slot, path }),
            None => plan.push(Op::Root { slot }),
        }
        let mut late = Vec::new();
        for mount in &self.mounts {
            late.extend(mount.write(plan, host, cgroup)?);
        }
        if !self.mounts.iter().any(|mount| mount.destination == "/dev" && mount.is_bind()) {
            match self.nodes {
                Some(nodes) => devices::attach(plan, nodes, host),
                None => devices::write(plan, linux, host)?,
            }
        }
        for slot in late {
            plan.push(Op::SetAttributes { slot, set: RDONLY, clear: 0, propagation: 0, recursive: 0 });
            plan.release(slot);
        }
        Ok(())
    }
}

pub(super) fn root(plan: &mut Writer, rootfs: &Rootfs, linux: &Linux, host: &Host) -> Result<Slot, Error> {
    let slot = plan.slot();
    match rootfs {
        Rootfs::Directory(path) => {
            absolute(path)?;
            plan.with_text(path.as_os_str().as_bytes(), |path| Op::CloneTree { slot, path, recursive: 1 });
            // Who asks for it sees what the host mounts below it later on.
            let (propagation, recursive) = match linux.rootfs_propagation().as_deref() {
                Some("slave") => (MS_SLAVE, 0),
                Some("rslave") => (MS_SLAVE, 1),
                _ => (MS_PRIVATE, 1),
            };
            plan.push(Op::SetAttributes { slot, set: 0, clear: 0, propagation, recursive });
        }
        Rootfs::Overlay { lower, upper, work, volatile } => {
            if lower.is_empty() {
                return Err(Error::Invalid("an overlay needs at least one lower directory".to_owned()));
            }
            let overlay = Overlay { lower, upper, work, volatile: *volatile };
            if host.features.overlay_append { overlay.write(plan, slot)? } else { overlay.write_at_once(plan, slot)? }
        }
    }
    Ok(slot)
}

struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
    volatile: bool,
}

/// Whatever this kernel's defaults are, the upper directory has to be readable as a plain tree of changes (for commit, diff and
/// export), layers come from strangers (whose redirects must not be followed), and they may be moved or unpacked anew (which an
/// index of file handles would not survive).
const OPTIONS: [(&CStr, &CStr); 3] = [(c"metacopy", c"off"), (c"redirect_dir", c"nofollow"), (c"index", c"off")];

impl Overlay<'_> {
    fn write(&self, plan: &mut Writer, slot: Slot) -> Result<(), Error> {
        plan.push(Op::FsOpen { slot, kind: c"overlay" });
        plan.push(Op::FsString { slot, key: c"source", value: c"overlay" });
        let lower = self.lower.iter().map(|path| (c"lowerdir+", path.as_path()));
        for (key, path) in lower.chain([(c"upperdir", self.upper), (c"workdir", self.work)]) {
            absolute(path)?;
            let bytes = path.as_os_str().as_bytes();
            if bytes.len() > MAX_VALUE || bytes.contains(&b'\\') {
                return Err(Error::Unsupported(format!(
                    "a layer whose path has more than {MAX_VALUE} bytes or a backslash: {}",
                    path.display()
                )));
            }
            plan.with_text(bytes, |value| Op::FsString { slot, key, value });
        }
        for (key, value) in OPTIONS {
            plan.push(Op::FsString { slot, key, value });
        }
        if self.volatile {
            plan.push(Op::FsFlag { slot, key: c"volatile" });
        }
        plan.push(Op::FsMount { slot, attributes: 0 });
        Ok(())
    }

    /// Before Linux 6.7 all layers are one option, and only the old call takes one that is long enough.
    fn write_at_once(&self, plan: &mut Writer, slot: Slot) -> Result<(), Error> {
        let parent = |path: &PathBuf| path.parent().map(Path::to_path_buf);
        let first = self.lower.first().and_then(parent);
        // Layers that lie side by side are named from there.
        let together = first.filter(|first| self.lower.iter().all(|path| path.parent() == Some(first)));
        let mut options = b"lowerdir=".to_vec();
        for (at, path) in self.lower.iter().enumerate() {
            absolute(path)?;
            let name = if together.is_some() { path.file_name().unwrap_or_default() } else { path.as_os_str() };
            if at > 0 {
                options.push(b':');
            }
            options.extend(plain(name)?);
        }
        for (key, path) in [("upperdir", self.upper), ("workdir", self.work)] {
            absolute(path)?;
            options.extend(format!(",{key}=").as_bytes());
            options.extend(plain(path.as_os_str())?);
        }
        for (key, value) in OPTIONS {
            options.push(b',');
            options.extend(key.to_bytes());
            options.push(b'=');
            options.extend(value.to_bytes());
        }
        if self.volatile {
            options.extend(b",volatile");
        }
        if options.len() > MAX_OPTIONS {
            return Err(Error::Unsupported(format!(
                "the {} layers of this image: before Linux 6.7 their names together may have {MAX_OPTIONS} bytes",
                self.lower.len()
            )));
        }
        let directory = together.unwrap_or_else(|| PathBuf::from("/"));
        plan.with_texts(directory.as_os_str().as_bytes(), options, |directory, options| Op::OverlayOf {
            slot,
            directory,
            options,
        });
        Ok(())
    }
}

/// A path without what separates options and layers.
fn plain(path: &OsStr) -> Result<&[u8], Error> {
    let bytes = path.as_bytes();
    if bytes.iter().any(|byte| b":,\\".contains(byte)) {
        return Err(Error::Unsupported(format!(
            "before Linux 6.7 a layer whose path has a colon, a comma or a backslash: {}",
            path.display()
        )));
    }
    Ok(bytes)
}

fn absolute(path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Error::Invalid(format!("path {} is not absolute", path.display())))
}

/// Hides what is to be hidden and makes the root the root.
pub(super) fn finish(plan: &mut Writer, spec: &Spec, linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    for path in linux.masked_paths().iter().flatten() {
        let path = clean(Path::new(path))?;
        plan.with_text(path, |path| Op::Mask { path });
    }
    for path in linux.readonly_paths().iter().flatten() {
        let path = clean(Path::new(path))?;
        plan.with_text(path, |path| Op::ReadOnly { path });
    }
    plan.push(if namespaces.shares_mounts() { Op::ChangeRoot {} } else { Op::PivotRoot {} });
    let all = |flag: u64, word: &str| if word.starts_with('r') { flag | MS_REC } else { flag };
    match linux.rootfs_propagation().as_deref().unwrap_or_default() {
        // The root is private already, and bind mounts say for themselves what they are.
        "" | "private" | "rprivate" | "slave" | "rslave" => {}
        word @ ("shared" | "rshared") => plan.push(Op::Propagation { flags: all(MS_SHARED, word) }),
        word @ ("unbindable" | "runbindable") => plan.push(Op::Propagation { flags: all(MS_UNBINDABLE, word) }),
        other => return Err(Error::Invalid(format!("rootfsPropagation {other:?} is not known"))),
    }
    if spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly).unwrap_or(false) {
        plan.push(Op::RootReadOnly {});
    }
    Ok(())
}
