//! Execs.

use engine::container::{ExecRecord, ExecSpec, ExecState};
use engine_api::exec as wire;
use engine_api::version::ApiVersion;

use super::container::host::console_size;
use crate::error::Error;
use crate::version::Gates;

/// What was asked for.
pub(crate) fn spec(request: wire::ExecCreate, version: ApiVersion) -> Result<ExecSpec, Error> {
    let command = request.cmd.unwrap_or_default();
    if command.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let mut spec = ExecSpec::new(command);
    spec.env = request.env.unwrap_or_default();
    spec.user = request.user;
    spec.working_dir = request.working_dir;
    spec.tty = request.tty;
    spec.attach_stdin = request.attach_stdin;
    spec.attach_stdout = request.attach_stdout;
    spec.attach_stderr = request.attach_stderr;
    spec.privileged = request.privileged;
    spec.detach_keys = request.detach_keys.parse()?;
    if version.has_console_size() {
        spec.console_size = request.console_size.and_then(console_size);
    }
    Ok(spec)
}

/// An exec as inspect shows it.
pub(crate) fn inspect(record: &ExecRecord) -> wire::ExecInspect {
    let spec = &record.spec;
    let (program, arguments) =
        spec.command.split_first().map(|(first, rest)| (first.clone(), rest.to_vec())).unwrap_or_default();
    let pid = if let ExecState::Running { pid, .. } = record.state { pid.into() } else { 0 };
    wire::ExecInspect {
        id: record.id.as_str().to_owned(),
        running: record.state.is_running(),
        exit_code: record.state.exit_code(),
        process_config: wire::ProcessConfig {
            tty: spec.tty,
            entrypoint: program,
            arguments: Some(arguments),
            privileged: Some(spec.privileged),
            user: spec.user.clone(),
        },
        open_stdin: spec.attach_stdin,
        open_stderr: spec.attach_stderr,
        open_stdout: spec.attach_stdout,
        can_remove: record.state.exit_code().is_some(),
        container_id: record.container.as_str().to_owned(),
        detach_keys: String::new(),
        pid,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use engine_api::version::MAX;

    #[test]
    fn a_request_becomes_a_spec() {
        let request: wire::ExecCreate =
            engine_api::json::from_slice(br#"{"Cmd":["id","-u"],"User":"1","AttachStdout":true,"Tty":true,"ConsoleSize":[24,80],"DetachKeys":"ctrl-a"}"#).unwrap();
        let spec = spec(request.clone(), MAX).unwrap();
        assert_eq!(spec.command, ["id", "-u"]);
        assert!(spec.tty && spec.attach_stdout && !spec.attach_stderr);
        assert_eq!((spec.console_size, spec.detach_keys.as_bytes()), (Some((24, 80)), &[1][..]));
        assert_eq!(super::spec(request, ApiVersion::new(1, 41)).unwrap().console_size, None);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(spec(wire::ExecCreate::default(), MAX).unwrap_err(), Error::invalid("No exec command specified"));
        let keys = wire::ExecCreate { cmd: Some(vec!["a".into()]), detach_keys: "xx".into(), ..Default::default() };
        assert_eq!(spec(keys, MAX).unwrap_err().message, "Invalid detach keys (xx) provided");
    }
}
