//! The plans of what an OCI runtime of the host does: the call of that runtime, and for a new container the root and the mounts that
//! it finds.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use engine_shim::plan::Op;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process};

use super::attributes::{MS_REC, MS_SLAVE};
use super::writer::Writer;
use super::{Plan, Resource, check, console_size, process, rootfs};
use crate::cgroup::Places;
use crate::external::{ExecFiles, External, INIT, ROOTFS, SEARCH_PATH, TREES};
use crate::{Bundle, Error, Host, Stdin};

/// Compiles the creation of a container by `by`; it waits for its start.
pub(crate) fn create(bundle: &Bundle, by: &External, directory: &Path, host: &Host) -> Result<Plan, Error> {
    let spec = &bundle.spec;
    check::id(&bundle.id)?;
    check::spec(spec)?;
    let invalid = |what: &str| Error::Invalid(format!("the specification has no {what}"));
    let linux = spec.linux().as_ref().ok_or_else(|| invalid("linux section"))?;
    let of = spec.process().as_ref().ok_or_else(|| invalid("process"))?;
    let cgroup = Places::of(spec, &bundle.id, host)?;
    let mut plan = Writer::default();
    plan.push(Op::Namespaces { flags: LinuxNamespaceType::Mount as u64 });
    super::monitor(&mut plan, bundle, of, linux, &cgroup);
    let mut words = by.words(directory, INIT);
    words.push("create".to_owned());
    words.extend(["--bundle".to_owned(), directory.display().to_string()]);
    adopted(&mut plan, &mut words, by, (directory, INIT), of.terminal().unwrap_or(false));
    words.push(bundle.id.clone());
    mount_root(&mut plan, bundle, linux, directory, host)?;
    for (number, destination) in bundle.trees.keys().enumerate() {
        let slot = plan.slot();
        let descriptor = plan.descriptor(Resource::Tree(destination.clone()));
        plan.push(Op::CloneTreeOf { slot, descriptor, recursive: 1 });
        let path = at(&directory.join(TREES), &number.to_string());
        plan.with_text(path, |path| Op::MoveMount { slot, path, strict: 0 });
        plan.release(slot);
    }
    execute(&mut plan, words, directory, host)?;
    plan.finish()
}

/// Mounts the root in the run directory, where only who is in this mount namespace sees it.
pub(super) fn mount_root(
    plan: &mut Writer,
    bundle: &Bundle,
    linux: &Linux,
    directory: &Path,
    host: &Host,
) -> Result<(), Error> {
    // Nothing of what follows reaches the host.
    plan.push(Op::Propagation { flags: MS_SLAVE | MS_REC });
    if !host.features.mount_setattr {
        plan.push(Op::OldAttributes {});
    }
    let slot = rootfs::root(plan, &bundle.rootfs, linux, host)?;
    plan.with_text(at(directory, ROOTFS), |path| Op::MoveMount { slot, path, strict: 0 });
    plan.release(slot);
    Ok(())
}

/// Compiles a call of `by` that is to leave no process.
pub(crate) fn call(
    id: &str,
    by: &External,
    directory: &Path,
    name: &str,
    verb: &[&str],
    host: &Host,
) -> Result<Plan, Error> {
    let mut plan = Writer::default();
    plan.push(Op::DiscardOutput {});
    plan.push(Op::DieWithLauncher {});
    plan.with_text("", |pid_file| Op::Adopt { pid_file, milliseconds: milliseconds(by) });
    let mut words = by.words(directory, name);
    words.extend(verb.iter().map(|&word| word.to_owned()));
    words.push(id.to_owned());
    execute(&mut plan, words, directory, host)?;
    plan.finish()
}

/// Compiles an exec by `by`.
pub(crate) fn exec(
    id: &str,
    by: &External,
    files: &ExecFiles,
    command: &Process,
    stdin: Stdin,
    discard: bool,
    host: &Host,
) -> Result<Plan, Error> {
    check::id(id)?;
    check::process(command)?;
    let mut plan = Writer::default();
    if let Stdin::Open { once } = stdin {
        plan.push(Op::OpenStdin { once: once.into() });
    }
    if discard {
        plan.push(Op::DiscardOutput {});
    }
    if let Some((rows, columns)) = console_size(command) {
        plan.push(Op::TerminalSize { rows, columns });
    }
    let mut words = by.words(&files.directory, &files.name);
    words.push("exec".to_owned());
    words.extend(["--process".to_owned(), files.path("json").display().to_string()]);
    words.push("--detach".to_owned());
    adopted(&mut plan, &mut words, by, (&files.directory, &files.name), command.terminal().unwrap_or(false));
    words.push(id.to_owned());
    execute(&mut plan, words, &files.directory, host)?;
    plan.finish()
}

/// What is left is a child of the monitor, with a terminal of its own perhaps.
fn adopted(
    plan: &mut Writer,
    words: &mut Vec<String>,
    by: &External,
    (directory, name): (&Path, &str),
    terminal: bool,
) {
    let pid_file = format!("{name}.pid");
    plan.with_text(&pid_file, |pid_file| Op::Adopt { pid_file, milliseconds: milliseconds(by) });
    words.extend(["--pid-file".to_owned(), directory.join(pid_file).display().to_string()]);
    if terminal {
        let socket = format!("{name}.sock");
        // From the working directory: the whole path may be too long for the name of a socket.
        words.extend(["--console-socket".to_owned(), socket.clone()]);
        let socket = plan.descriptor(Resource::Console(directory.join(socket)));
        plan.push(Op::ConsoleAt { socket });
    }
}

/// The bound on one call.
fn milliseconds(by: &External) -> u32 {
    super::milliseconds(by.patience)
}

/// The call itself, as the superuser of the host with all that it may.
pub(super) fn execute(plan: &mut Writer, words: Vec<String>, directory: &Path, host: &Host) -> Result<(), Error> {
    let all = crate::capabilities::set(host.bounding);
    let mut caller = Process::default();
    caller
        .set_args(Some(words))
        .set_env(Some(vec![SEARCH_PATH.to_owned()]))
        .set_cwd(directory.to_owned())
        .set_no_new_privileges(None)
        .set_rlimits(None)
        .set_capabilities(Some(crate::defaults::capability_sets(&all)));
    let user = process::User { name: None, groups: &[], make_working_directory: false, in_namespace: false };
    process::write(plan, &caller, &user, host, None)
}

pub(super) fn at(directory: &Path, name: &str) -> Vec<u8> {
    directory.join(name).as_os_str().as_bytes().to_vec()
}
