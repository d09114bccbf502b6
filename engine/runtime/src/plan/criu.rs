//! The plans of what CRIU does: a call that writes a container's processes down, and the launch of a container from what was
//! written. For a launch the container's root and the sources of its bind mounts are put together in a mount namespace that only
//! CRIU is in; it makes all other mounts itself, as they were.

use std::path::Path;

use engine_shim::plan::Op;
use oci_spec::runtime::LinuxNamespaceType as Kind;

use super::attributes::Attributes;
use super::external::{at, execute, mount_root};
use super::mounts::clean;
use super::writer::Writer;
use super::{Plan, Resource, check, namespaces};
use crate::cgroup::Places;
use crate::criu::{self, Criu, NETWORK_NUMBER, Noted, STREAMS_NUMBER};
use crate::external::{INIT, TREES};
use crate::{Bundle, Error, Host};

/// Compiles a call of CRIU with these words that is to leave no process. It ends by itself when whoever asked for it is gone: to be
/// killed in the middle of it would harm the container.
pub(crate) fn call(by: &Criu, words: Vec<String>, directory: &Path, host: &Host) -> Result<Plan, Error> {
    let mut plan = Writer::default();
    plan.push(Op::DiscardOutput {});
    plan.with_text("", |pid_file| Op::Adopt { pid_file, milliseconds: super::milliseconds(by.patience) });
    let file = plan.descriptor(Resource::Said(directory.join(criu::LOG)));
    plan.push(Op::StreamsAt { number: 0, file });
    execute(&mut plan, words, directory, host)?;
    plan.finish()
}

/// Compiles the launch of a container from the images in a directory. It runs, and nevertheless waits to be told to start.
pub(crate) fn restore(
    bundle: &Bundle,
    by: &Criu,
    directory: &Path,
    images: &Path,
    noted: &Noted,
    host: &Host,
) -> Result<Plan, Error> {
    let spec = &bundle.spec;
    check::id(&bundle.id)?;
    check::spec(spec)?;
    criu::check(bundle)?;
    let invalid = |what: &str| Error::Invalid(format!("the specification has no {what}"));
    let linux = spec.linux().as_ref().ok_or_else(|| invalid("linux section"))?;
    let of = spec.process().as_ref().ok_or_else(|| invalid("process"))?;
    let cgroup = Places::of(spec, &bundle.id, host)?;
    let sources = criu::sources(spec, noted, &cgroup, directory)?;

    let mut plan = Writer::default();
    plan.push(Op::Namespaces { flags: Kind::Mount as u64 });
    super::monitor(&mut plan, bundle, of, linux, &cgroup);
    let pid_file = format!("{INIT}.pid");
    plan.with_text(&pid_file, |pid_file| Op::Adopt { pid_file, milliseconds: super::milliseconds(by.patience) });
    // CRIU leaves cgroups alone: what it makes is where it is itself.
    namespaces::join_cgroups(&mut plan, &cgroup.entry(), host);
    if criu::has_new(spec, Kind::Cgroup) {
        plan.push(Op::Unshare { flags: Kind::Cgroup as u64 });
    }
    mount_root(&mut plan, bundle, linux, directory, host)?;
    for (number, mount) in spec.mounts().iter().flatten().enumerate() {
        let attributes = Attributes::parse(mount.options().as_deref().unwrap_or_default())?;
        let (Some(recursive), Some(source)) = (attributes.bind, mount.source()) else { continue };
        let destination = clean(&Path::new("/").join(mount.destination()))?;
        if attributes.mapped.is_some() {
            return Err(Error::Unsupported(format!("a checkpoint with mapped ids at {destination}")));
        }
        let slot = plan.slot();
        if bundle.trees.contains_key(Path::new(&destination)) {
            let descriptor = plan.descriptor(Resource::Tree(destination.into()));
            plan.push(Op::CloneTreeOf { slot, descriptor, recursive: recursive.into() });
        } else {
            let source = source.as_os_str().as_encoded_bytes();
            plan.with_text(source, |path| Op::CloneTree { slot, path, recursive: recursive.into() });
        }
        let path = at(&directory.join(TREES), &number.to_string());
        plan.with_text(path, |path| Op::MoveMount { slot, path, strict: 0 });
        plan.release(slot);
    }
    if let Some(network) = network(spec, noted)? {
        let descriptor = plan.descriptor(network);
        plan.push(Op::HandOn { descriptor, number: NETWORK_NUMBER });
    }
    let file = plan.descriptor(Resource::Said(directory.join(criu::LOG)));
    plan.push(Op::StreamsAt { number: STREAMS_NUMBER, file });
    let words = criu::restore_words(by, directory, images, noted, &sources);
    execute(&mut plan, words, directory, host)?;
    plan.finish()
}

/// The network namespace that the container comes into; none when it has that of the host, as it must have had before.
fn network(spec: &oci_spec::runtime::Spec, noted: &Noted) -> Result<Option<Resource>, Error> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let found = namespaces.into_iter().flatten().find(|one| one.typ() == Kind::Network);
    match (found, noted.network) {
        (None, false) => Ok(None),
        (Some(found), true) => Ok(Some(found.path().clone().map_or(Resource::Network, Resource::Namespace))),
        _ => Err(Error::Invalid("the checkpoint was taken in another kind of network".to_owned())),
    }
}
