//! Further processes in a running container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use engine_runtime::protocol::{Attach, MAX_PREFACE, Request};
use engine_runtime::spec::BoxBuilder;
use engine_runtime::{Exec as RuntimeExec, ExecPlan, Stdin};
use tokio::sync::{oneshot, watch};

use super::attaching::{pair, socket_failed};
use super::config::{clean_path, overlay_environment};
use super::inventory::{Shared, blocking, lock, not_running, uninterrupted};
use super::live::{ExecFailure, Live, Refused};
use super::start::bundle_of;
use super::status::Status;
use super::{AttachHandle, Attached, Container, Containers, Error, ExecRecord, ExecSpec, ExecState, outside};
use crate::id::{ContainerId, ExecId, Resolved, resolve};

/// The most execs that are remembered of one container after their end; the oldest are forgotten.
const MAX_REMEMBERED: usize = 256;
/// The most that wait for their start. Thousands may be on their way at once.
const MAX_WAITING: usize = 8192;

#[derive(Debug)]
pub(super) struct Inner {
    id: ExecId,
    container: ContainerId,
    spec: ExecSpec,
    state: watch::Sender<ExecState>,
    /// Its number at the monitor, and the run of the container that it is in.
    running: Mutex<Option<(u64, Arc<Live>)>>,
    created_at: i64,
    /// Nobody is told of it and nobody finds it: the engine itself asks for health with it.
    unseen: bool,
}

impl Inner {
    pub(super) fn container(&self) -> ContainerId {
        self.container
    }
}

/// A further process in a container. A cheap clone.
#[derive(Clone, Debug)]
pub struct Exec {
    container: Container,
    inner: Arc<Inner>,
}

impl Containers {
    /// The exec with this id or a unique beginning of it.
    ///
    /// # Errors
    /// When there is none.
    pub fn exec(&self, id: &str) -> Result<Exec, Error> {
        let missing = || Error::NoSuchExec(id.chars().take(256).collect());
        let inner = {
            let execs = lock(&self.shared.execs);
            match resolve(execs.keys(), id) {
                Resolved::One(id) => execs.get(id).cloned(),
                Resolved::None => None,
                Resolved::Many => return Err(Error::Ambiguous(id.to_owned())),
            }
        };
        let inner = inner.ok_or_else(missing)?;
        let of = self.shared.by_id(&inner.container).ok_or_else(missing)?;
        Ok(Exec { container: Container { shared: Arc::clone(&self.shared), inner: of }, inner })
    }
}

impl Container {
    /// Prepares a further process; it is started by the handle.
    ///
    /// # Errors
    /// When the container does not run or is paused, or no command is given.
    pub async fn exec(&self, spec: ExecSpec) -> Result<Exec, Error> {
        self.owned()?;
        self.ready_for_exec()?;
        if spec.command.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("No exec command specified"));
        }
        if !spec.working_dir.is_empty() && !spec.working_dir.starts_with('/') {
            return Err(Error::invalid(format!("Cwd must be an absolute path: {}", spec.working_dir)));
        }
        for word in spec.command.iter().chain(&spec.env).chain([&spec.user, &spec.working_dir]) {
            if word.contains('\0') {
                return Err(Error::invalid("an argument must not contain a zero byte"));
            }
        }
        let exec = self.new_exec(spec, false);
        remember(&self.shared, &exec.inner);
        exec.tell("exec_create", &[]);
        Ok(exec)
    }

    fn new_exec(&self, spec: ExecSpec, unseen: bool) -> Exec {
        let inner = Arc::new(Inner {
            id: ExecId::random(),
            container: self.inner.id,
            spec,
            state: watch::Sender::default(),
            running: Mutex::default(),
            created_at: super::inventory::now(),
            unseen,
        });
        Exec { container: self.clone(), inner }
    }

    /// A process that is no news and that nobody finds.
    pub(super) fn unseen_exec(&self, spec: ExecSpec) -> Exec {
        self.new_exec(spec, true)
    }

    /// Ids of its execs that have not been forgotten.
    #[must_use]
    pub fn exec_ids(&self) -> Vec<ExecId> {
        let execs = lock(&self.shared.execs);
        execs
            .values()
            .filter(|exec| exec.container == self.inner.id && exec.state.borrow().is_running())
            .map(|exec| exec.id)
            .collect()
    }

    fn ready_for_exec(&self) -> Result<(), Error> {
        let record = self.inner.record();
        match record.state.status {
            Status::Running => Ok(()),
            Status::Paused => {
                Err(Error::conflict(format!("Container {} is paused, unpause the container before exec", record.id)))
            }
            Status::Restarting => Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                record.id
            ))),
            _ => Err(not_running(record.id.as_str())),
        }
    }
}

fn remember(shared: &Shared, inner: &Arc<Inner>) {
    let mut execs = lock(&shared.execs);
    let of_container = execs.values().filter(|exec| exec.container == inner.container);
    let known: Vec<_> = of_container.map(|exec| (*exec.state.borrow(), exec.created_at, exec.id)).collect();
    for id in forgotten(&known) {
        execs.remove(&id);
    }
    execs.insert(inner.id, Arc::clone(inner));
}

/// Which execs of a container are forgotten, so that there is room for one more.
fn forgotten(known: &[(ExecState, i64, ExecId)]) -> Vec<ExecId> {
    let oldest = |most: usize, which: fn(&ExecState) -> bool| {
        let mut all: Vec<_> = known.iter().filter(|(state, ..)| which(state)).map(|(_, at, id)| (*at, *id)).collect();
        all.sort_unstable();
        let more = (all.len() + 1).saturating_sub(most);
        all.into_iter().take(more).map(|(_, id)| id)
    };
    let ended = oldest(MAX_REMEMBERED, |state| state.exit_code().is_some());
    ended.chain(oldest(MAX_WAITING, |state| *state == ExecState::Created)).collect()
}

/// A client of an exec.
struct Client {
    socket: OwnedFd,
    preface: Vec<u8>,
    framed: bool,
}

impl Exec {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &ExecId {
        &self.inner.id
    }

    /// The container it is in.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// What was asked for, and how it stands.
    #[must_use]
    pub fn inspect(&self) -> ExecRecord {
        ExecRecord {
            id: self.inner.id,
            container: self.inner.container,
            spec: self.inner.spec.clone(),
            state: *self.inner.state.borrow(),
        }
    }

    /// As [`Exec::inspect`], for somebody who has seen the end of its output: what the monitor has told by then is known.
    pub async fn look(&self) -> ExecRecord {
        // It may be over before its start was heard of.
        let starts = |state: &ExecState| matches!(state, ExecState::Starting);
        let _ = self.inner.state.subscribe().wait_for(|state| !starts(state)).await;
        let running = lock(&self.inner.running).clone();
        if let Some((number, live)) = running {
            live.catch_up().await;
            if !live.expects_end_of(number) {
                // Its end was heard, and is being written down.
                let _ = self.wait().await;
            }
        }
        self.inspect()
    }

    /// Starts it with nobody connected. Returns when its program runs.
    ///
    /// # Errors
    /// When it has been started already, or cannot be: [`Error::Start`] says why in Docker's words.
    pub async fn start(&self) -> Result<(), Error> {
        self.run(None, None).await.map(drop)
    }

    /// Starts it, and connects this program to its streams.
    ///
    /// # Errors
    /// As [`Exec::start`].
    pub async fn attach(&self) -> Result<Attached, Error> {
        let framed = !self.inner.spec.tty;
        let (ours, theirs) = pair()?;
        self.run(Some(Client { socket: theirs.into(), preface: Vec::new(), framed }), None).await?;
        ours.set_nonblocking(true).map_err(socket_failed)?;
        let stream = tokio::net::UnixStream::from_std(ours).map_err(socket_failed)?;
        Ok(Attached::new(stream, framed, BytesMut::new()))
    }

    /// Starts it, and connects a client's socket to its streams; see [`Container::attach_socket`].
    ///
    /// # Errors
    /// As [`Exec::start`].
    pub async fn start_socket(
        &self,
        client: OwnedFd,
        preface: Vec<u8>,
        framed: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<AttachHandle, Error> {
        if preface.len() > MAX_PREFACE {
            return Err(Error::invalid(format!("more than {MAX_PREFACE} bytes were sent before the answer")));
        }
        let client = Client { socket: client, preface, framed };
        let ended = self.run(Some(client), console_size).await?;
        ended.map(AttachHandle::new).ok_or_else(|| Error::Internal("the client was not connected".to_owned()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the engine is closed first.
    pub async fn wait(&self) -> Result<i32, Error> {
        let mut state = self.inner.state.subscribe();
        let mut closing = self.container.shared.closing.subscribe();
        tokio::select! {
            ended = state.wait_for(|state| state.exit_code().is_some()) => {
                Ok(ended.ok().and_then(|state| state.exit_code()).unwrap_or_default())
            }
            _ = closing.wait_for(|closing| *closing) => {
                Err(Error::Unavailable("the engine was closed before the process ended".to_owned()))
            }
        }
    }

    /// Sets the size of its terminal.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), Error> {
        let running = lock(&self.inner.running).clone();
        let (number, live) =
            running.ok_or_else(|| Error::conflict(format!("exec command {} is not running", self.inner.id)))?;
        live.send(&Request::Resize { process: number, rows, columns }, &[])
    }

    /// Sends its process a signal, when it runs.
    pub(super) fn signal(&self, signal: i32) {
        if let Some((number, live)) = lock(&self.inner.running).clone() {
            // It may have ended just now.
            let _ = live.send(&Request::Signal { process: number, signal }, &[]);
        }
    }

    async fn run(
        &self,
        client: Option<Client>,
        console_size: Option<(u16, u16)>,
    ) -> Result<Option<oneshot::Receiver<()>>, Error> {
        let this = self.clone();
        uninterrupted(async move {
            this.container.owned()?;
            this.begin()?;
            let started = this.run_begun(client, console_size).await;
            if let Err(error) = &started {
                let code = if let Error::Start { code, .. } = error { *code } else { 128 };
                this.inner.state.send_replace(ExecState::Exited { code, pid: 0 });
            }
            started
        })
        .await
    }

    fn begin(&self) -> Result<(), Error> {
        let mut before = ExecState::Created;
        let began = self.inner.state.send_if_modified(|state| {
            before = *state;
            let fresh = *state == ExecState::Created;
            if fresh {
                *state = ExecState::Starting;
            }
            fresh
        });
        let id = &self.inner.id;
        match before {
            _ if began => Ok(()),
            ExecState::Exited { .. } => Err(Error::conflict(format!("exec command {id} has already run"))),
            _ => Err(Error::conflict(format!("exec command {id} is already running"))),
        }
    }

    async fn run_begun(
        &self,
        client: Option<Client>,
        console_size: Option<(u16, u16)>,
    ) -> Result<Option<oneshot::Receiver<()>>, Error> {
        self.container.ready_for_exec()?;
        let live = self.container.live()?;
        let number = live.number();
        let plan = match self.plan_of_before(&live)? {
            Some(plan) => plan,
            None => self.plan(&live, number, client.is_some(), console_size).await?,
        };
        self.tell("exec_start", &[]);
        let (started, ended) = live.expect_exec(number);
        let mut client_ended = None;
        let sent = match &client {
            None => live.send(&Request::Exec { id: number }, &plan.descriptors()),
            Some(client) => {
                let spec = &self.inner.spec;
                let client_number = live.number();
                client_ended = Some(live.expect_client(client_number).1);
                let attach = Attach {
                    client: client_number,
                    process: number,
                    stdin: spec.attach_stdin,
                    stdout: spec.attach_stdout,
                    stderr: spec.attach_stderr,
                    framed: client.framed,
                    stdin_once: true,
                    detach_keys: if spec.tty { spec.detach_keys.as_bytes() } else { &[] },
                    preface: &client.preface,
                };
                let mut descriptors: Vec<BorrowedFd<'_>> = vec![client.socket.as_fd()];
                descriptors.extend(plan.descriptors());
                live.send(&Request::ExecAttached { id: number, attach }, &descriptors)
            }
        };
        if let Err(error) = sent {
            live.forget(number);
            return Err(error);
        }
        // From here on the monitor has it.
        drop(client);
        match started.await {
            Ok(Ok(pid)) => self.started(number, pid, live, ended),
            Ok(Err(ExecFailure::Step(failure))) => return Err(exec_error(plan.failed(failure))),
            Ok(Err(ExecFailure::Refused(Refused { refusal, errno }))) => {
                return Err(Error::Internal(format!("the monitor refused to execute: {refusal:?} (errno {errno})")));
            }
            Err(_) => return Err(not_running(self.inner.container.as_str())),
        }
        Ok(client_ended)
    }

    fn started(&self, number: u64, pid: u32, live: Arc<Live>, ended: oneshot::Receiver<i32>) {
        *lock(&self.inner.running) = Some((number, live));
        self.inner.state.send_replace(ExecState::Running { pid });
        let this = self.clone();
        tokio::spawn(async move {
            // The container ended first, and took it along.
            let code = ended.await.unwrap_or(128 + 9);
            *lock(&this.inner.running) = None;
            this.inner.state.send_replace(ExecState::Exited { code, pid });
            this.tell("exec_die", &[("exitCode", code.to_string())]);
        });
    }

    /// A question for health is the same throughout a run. What is opened for it lies in memory: no thread is asked to wait for it.
    fn plan_of_before(&self, live: &Live) -> Result<Option<ExecPlan>, Error> {
        let Some(compiled) = live.question().filter(|_| self.inner.unseen) else { return Ok(None) };
        Ok(self.container.shared.parts.runtime.exec_again(&compiled, live.process())?)
    }

    async fn plan(
        &self,
        live: &Arc<Live>,
        number: u64,
        attached: bool,
        size: Option<(u16, u16)>,
    ) -> Result<ExecPlan, Error> {
        let (shared, record) = (Arc::clone(&self.container.shared), self.container.inner.record());
        let (exec, live) = (Arc::clone(&self.inner), Arc::clone(live));
        blocking(move || {
            let spec = &exec.spec;
            let of = bundle_of(&shared, &record)?;
            let mut command = of.spec.process().clone().unwrap_or_default();
            let mut environment = record.config.environment_with(spec.tty);
            let mut linked = super::links::variables_now(&shared, &record);
            if !linked.is_empty() {
                overlay_environment(&mut linked, &environment);
                environment = linked;
            }
            overlay_environment(&mut environment, &spec.env);
            command.set_terminal(Some(spec.tty)).set_args(Some(spec.command.clone())).set_env(Some(environment));
            if !spec.working_dir.is_empty() {
                command.set_cwd(PathBuf::from(clean_path(&spec.working_dir)));
            }
            if let Some((rows, columns)) = size.or(spec.console_size).filter(|size| spec.tty && *size != (0, 0)) {
                command.set_console_size(BoxBuilder::default().height(rows).width(columns).build().ok());
            }
            let user = Some(spec.user.as_str()).filter(|user| !user.is_empty()).or(of.user.as_deref());
            // Whoever made it, whatever the name means by now.
            let by = shared.parts.runtime.external(record.id.as_str())?;
            if by.is_some() {
                outside::name_users_of(&mut command, &live, user, &of.additional_groups)?;
            }
            let named = by.is_none();
            let asked = RuntimeExec {
                id: record.id.as_str(),
                init: live.process(),
                spec: &of.spec,
                docker_filter: of.docker_filter,
                command: &command,
                user: user.filter(|_| named),
                additional_groups: if named { &of.additional_groups } else { &[] },
                privileged: spec.privileged,
                subgroups: &[],
                stdin: if spec.attach_stdin { Stdin::Open { once: true } } else { Stdin::Null },
                discard_output: !attached,
            };
            let Some(by) = by else {
                let plan = shared.parts.runtime.exec(&asked)?;
                // Variables of links change with who is linked.
                if exec.unseen && record.config.host.links.is_empty() {
                    live.keep_question(plan.compiled());
                }
                return Ok(plan);
            };
            Ok(shared.parts.runtime.exec_external(&by, number, &asked)?)
        })
        .await
    }

    fn tell(&self, action: &str, more: &[(&str, String)]) {
        if self.inner.unseen {
            return;
        }
        let record = self.container.inner.record();
        let action = match action {
            "exec_die" => action.to_owned(),
            // As Docker has it: a blank behind the program, whatever follows.
            _ => {
                let (program, arguments) = self.inner.spec.command.split_first().unzip();
                let arguments = arguments.unwrap_or_default().join(" ");
                format!("{action}: {} {arguments}", program.map(String::as_str).unwrap_or_default())
            }
        };
        let mut all = vec![("execID", self.inner.id.to_string())];
        all.extend(more.iter().cloned());
        self.container.shared.tell(&record, action, &all);
    }
}

/// The exec that has this number in the run of a container.
pub(super) fn numbered(shared: &Shared, live: &Live, number: u64) -> Option<ExecId> {
    let execs = lock(&shared.execs);
    let runs = |inner: &&Arc<Inner>| {
        lock(&inner.running).as_ref().is_some_and(|(own, run)| *own == number && std::ptr::eq(&raw const **run, live))
    };
    execs.values().find(runs).map(|inner| inner.id)
}

fn exec_error(error: engine_runtime::Error) -> Error {
    match error {
        engine_runtime::Error::Process { message, exit_code } => Error::Start {
            // As with Docker: 126 for all that cannot be begun, when it is not simply missing.
            code: if exit_code == 127 { 127 } else { 126 },
            message: format!("OCI runtime exec failed: exec failed: {message}: unknown"),
        },
        other => Error::Runtime(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_forgotten_before_what_waits() {
        let exec = |state: ExecState, at: i64| (state, at, ExecId::random());
        let over = ExecState::Exited { code: 0, pid: 0 };
        let many = i64::try_from(MAX_REMEMBERED).unwrap_or_default();
        let mut known: Vec<_> = (0..many).map(|at| exec(over, many - at)).collect();
        let oldest = known.last().map(|(.., id)| *id);
        known.extend((0..2000).map(|at| exec(ExecState::Created, at)));
        known.extend((0..2000).map(|at| exec(ExecState::Starting, at)));
        assert_eq!(forgotten(&known), oldest.into_iter().collect::<Vec<_>>());
        assert_eq!(forgotten(&known[1..]), Vec::new());
        let waiting: Vec<_> = (0..10_000).map(|at| exec(ExecState::Created, at)).collect();
        assert_eq!(forgotten(&waiting).len(), 10_001 - MAX_WAITING);
    }
}
