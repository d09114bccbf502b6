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

pub(super) fn write(
    plan: &mut Writer,
    bundle: &Bundle,
    linux: &Linux,
    host: &Host,
    cgroup: &Places,
    _namespaces: &Namespaces,
) -> Result<(), Error> {
    let mounts = bundle.spec.mounts().as_deref().unwrap_or_default();
    let mut mounts = mounts.iter().map(Planned::of).collect::<Result<Vec<_>, _>>()?;
    for mount in &mut mounts {
        mount.clone_early(plan);
    }
    // From here on nothing that is mounted reaches the host.
    plan.push(Op::Propagation { flags: MS_SLAVE | MS_REC });
    root(plan, &bundle.rootfs, host)?;
    let mut late = Vec::new();
    for mount in &mounts {
        late.extend(mount.write(plan, host, cgroup)?);
    }
    // Who brings a /dev brings all of it.
    if !mounts.iter().any(|mount| mount.destination == "/dev" && mount.is_bind()) {
        devices::write(plan, linux, host)?;
    }
    for slot in late {
        plan.push(Op::SetAttributes { slot, set: RDONLY, clear: 0, propagation: 0, recursive: 0 });
        plan.release(slot);
    }
    Ok(())
}

fn root(plan: &mut Writer, rootfs: &Rootfs, host: &Host) -> Result<(), Error> {
    let slot = plan.slot();
    match rootfs {
        Rootfs::Directory(path) => {
            absolute(path)?;
            plan.with_text(path.as_os_str().as_bytes(), |path| Op::CloneTree { slot, path, recursive: 1 });
            plan.push(Op::SetAttributes { slot, set: 0, clear: 0, propagation: MS_PRIVATE, recursive: 1 });
        }
        Rootfs::Overlay { lower, upper, work, volatile } => {
            if lower.is_empty() {
                return Err(Error::Invalid("an overlay needs at least one lower directory".to_owned()));
            }
            let overlay = Overlay { lower, upper, work, volatile: *volatile };
            if host.features.overlay_append { overlay.write(plan, slot)? } else { overlay.write_at_once(plan, slot)? }
        }
    }
    plan.push(Op::Root { slot });
    Ok(())
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
pub(super) fn finish(plan: &mut Writer, spec: &Spec, linux: &Linux) -> Result<(), Error> {
    for path in linux.masked_paths().iter().flatten() {
        let path = clean(Path::new(path))?;
        plan.with_text(path, |path| Op::Mask { path });
    }
    for path in linux.readonly_paths().iter().flatten() {
        let path = clean(Path::new(path))?;
        plan.with_text(path, |path| Op::ReadOnly { path });
    }
    plan.push(Op::PivotRoot {});
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
