//! Refuses what a plan cannot express, so that nothing of a specification is passed over in silence.

use oci_spec::runtime::{Linux, Process, Spec};

use crate::Error;

/// A name that is safe as the name of a directory and of a cgroup.
pub(crate) fn id(id: &str) -> Result<(), Error> {
    let letters = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if letters && id.len() <= 128 && id.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "container id {id:?}: it takes 1 to 128 letters, digits, '_', '.' and '-', beginning with a letter or a digit"
    )))
}

pub(super) fn spec(spec: &Spec) -> Result<(), Error> {
    let foreign = spec.solaris().is_some() || spec.windows().is_some() || spec.vm().is_some() || spec.zos().is_some();
    refuse(&[(foreign, "a specification for another kind of machine")])?;
    spec.linux().as_ref().map_or(Ok(()), linux)?;
    spec.process().as_ref().map_or(Ok(()), process)
}

fn linux(linux: &Linux) -> Result<(), Error> {
    crate::interfaces::wanted(linux)?;
    refuse(&[(linux.intel_rdt().is_some(), "Intel RDT")])
}

pub(super) fn process(process: &Process) -> Result<(), Error> {
    refuse(&[
        (process.command_line().is_some(), "a Windows command line"),
        (process.user().username().as_ref().is_some_and(|name| !name.is_empty()), "a Windows user name"),
    ])?;
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Invalid("no command specified: process.args must not be empty".to_owned()));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::Invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            process.cwd().display()
        )));
    }
    Ok(())
}

fn refuse(wishes: &[(bool, &str)]) -> Result<(), Error> {
    match wishes.iter().find(|(wished, _)| *wished) {
        Some((_, what)) => Err(Error::Unsupported((*what).to_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::id;

    #[test]
    fn ids_cannot_leave_their_directory() {
        for good in ["a", "0f3c", "My_container-1.2"] {
            assert!(id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "a b", "a\0", "é", &"x".repeat(129)] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
