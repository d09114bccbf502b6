//! The file system of a container: its root, what is mounted into it, and what is hidden of it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
            plan.push(Op::FsOpen { slot, kind: c"overlay" });
            plan.push(Op::FsString { slot, key: c"source", value: c"overlay" });
            lowers(plan, slot, lower, host)?;
            for (key, path) in [(c"upperdir", upper), (c"workdir", work)] {
                let path = layer(path)?;
                plan.with_text(path, |value| Op::FsString { slot, key, value });
            }
            // Whatever this kernel's defaults are, the upper directory has to be readable as a plain tree of changes (for
            // commit, diff and export), layers come from strangers (whose redirects must not be followed), and they may
            // be moved or unpacked anew (which an index of file handles would not survive).
            for (key, value) in [(c"metacopy", c"off"), (c"redirect_dir", c"nofollow"), (c"index", c"off")] {
                plan.push(Op::FsString { slot, key, value });
            }
            if *volatile {
                plan.push(Op::FsFlag { slot, key: c"volatile" });
            }
            plan.push(Op::FsMount { slot, attributes: 0 });
        }
    }
    plan.push(Op::Root { slot });
    Ok(())
}

fn lowers(plan: &mut Writer, slot: Slot, lower: &[std::path::PathBuf], host: &Host) -> Result<(), Error> {
    if lower.is_empty() {
        return Err(Error::Invalid("an overlay needs at least one lower directory".to_owned()));
    }
    let layers = lower.iter().map(|path| layer(path)).collect::<Result<Vec<_>, _>>()?;
    if host.features.overlay_append {
        for path in layers {
            plan.with_text(path, |value| Op::FsString { slot, key: c"lowerdir+", value });
        }
        return Ok(());
    }
    let list = layers.join(&b':');
    if list.len() > MAX_VALUE || lower.iter().any(|path| path.as_os_str().as_bytes().contains(&b':')) {
        return Err(Error::Unsupported(format!(
            "the {} layers of this image: before Linux 6.7 their paths together must be shorter than 256 bytes and \
             without a colon",
            lower.len()
        )));
    }
    plan.with_text(list, |value| Op::FsString { slot, key: c"lowerdir", value });
    Ok(())
}

/// A path as overlay takes it.
fn layer(path: &Path) -> Result<&[u8], Error> {
    absolute(path)?;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > MAX_VALUE || bytes.contains(&b'\\') {
        return Err(Error::Unsupported(format!(
            "the path of a layer that has more than {MAX_VALUE} bytes or a backslash: {}",
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
