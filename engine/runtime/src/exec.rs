//! Further processes in a container that runs: compiled, and handed to its monitor with what they need.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::cgroup::Entry;
use crate::external::{ExecFiles, External};
use crate::failure::{self, During};
use crate::plan::{self, Plan, Resource};
use crate::protocol::Failure;
use crate::runtime::{PLAN_FILE, open};
use crate::{Cgroup, Error, Exec, Runtime, Unattended};

/// A plan of an exec with everything that goes with it, to be sent to the container's monitor as
/// [`crate::protocol::Request::Exec`] or [`crate::protocol::Request::ExecAttached`].
#[derive(Debug)]
pub struct ExecPlan {
    compiled: Arc<CompiledExec>,
    descriptors: Vec<OwnedFd>,
    /// Of an exec by another runtime.
    outside: Option<ExecFiles>,
}

/// What an exec was compiled to, for [`Runtime::exec_again`]. Holds one descriptor and some 2 kB.
#[derive(Debug)]
pub struct CompiledExec {
    /// The bytes of the plan.
    file: File,
    resources: Box<[Resource]>,
    /// Where it comes in, on machines where that may change while the container runs.
    place: Option<(Cgroup, Entry)>,
}

impl CompiledExec {
    fn new(plan: Plan, place: Option<(Cgroup, Entry)>) -> Result<Arc<Self>, Error> {
        let file = plan.bytes().to_file().map_err(Error::io("make", PLAN_FILE))?.into();
        Ok(Arc::new(Self { file, resources: plan.into_resources().into(), place }))
    }

    fn failed(&self, failure: Failure) -> Error {
        let read = || {
            let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).unwrap_or(0)];
            self.file.read_exact_at(&mut bytes, 0)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => failure::render(&bytes, failure, During::Exec),
            Err(error) => Error::io("read", PLAN_FILE)(error),
        }
    }

    fn open(&self, init: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Error> {
        let open = |resource: &Resource| match resource {
            Resource::Process => duplicate(init),
            other => open(other),
        };
        self.resources.iter().map(open).collect()
    }
}

impl ExecPlan {
    /// What travels with the request, in order: the plan and the plan's own descriptors. A client's socket comes before them.
    #[must_use]
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        std::iter::once(self.compiled.file.as_fd()).chain(self.descriptors.iter().map(AsFd::as_fd)).collect()
    }

    /// What it was compiled to.
    #[must_use]
    pub fn compiled(&self) -> &Arc<CompiledExec> {
        &self.compiled
    }

    /// The error behind an [`crate::protocol::Event::ExecFailed`] for this plan.
    #[must_use]
    pub fn failed(&self, failure: Failure) -> Error {
        let outside = self.outside.as_ref().and_then(|files| files.outcome.error(failure));
        outside.unwrap_or_else(|| self.compiled.failed(failure))
    }
}

impl Runtime {
    /// Compiles an exec and opens what it needs.
    ///
    /// # Errors
    /// [`Error::Io`] when the container's cgroup is gone, [`Error::Invalid`] and [`Error::Unsupported`] for what cannot be
    /// executed.
    pub fn exec(&self, exec: &Exec<'_>) -> Result<ExecPlan, Error> {
        self.prepare_exec(exec, None)
    }

    /// Opens what an exec of [`Runtime::exec`] needs that is executed once more in the same run of its container, whose pidfd
    /// `init` is. Nothing when it has to be compiled anew: its container has shared its cgroup out since then.
    ///
    /// # Errors
    /// [`Error::Io`] when the container's cgroup is gone.
    pub fn exec_again(&self, compiled: &Arc<CompiledExec>, init: BorrowedFd<'_>) -> Result<Option<ExecPlan>, Error> {
        if let Some((cgroup, entry)) = &compiled.place
            && cgroup.entry(&[], init)? != *entry
        {
            return Ok(None);
        }
        let descriptors = compiled.open(init)?;
        Ok(Some(ExecPlan { compiled: Arc::clone(compiled), descriptors, outside: None }))
    }

    pub(crate) fn prepare_exec(&self, exec: &Exec<'_>, unattended: Option<&Unattended>) -> Result<ExecPlan, Error> {
        let filter = self.filter(exec.spec, exec.docker_filter)?;
        let cgroup = self.cgroup(exec.id)?;
        let entry = cgroup.entry(exec.subgroups, exec.init)?;
        let plan = plan::compile_exec(exec, &entry, self.host(), filter.as_deref(), unattended)?;
        let changes = exec.subgroups.is_empty() && cgroup.shares_out();
        let compiled = CompiledExec::new(plan, changes.then_some((cgroup, entry)))?;
        let descriptors = compiled.open(exec.init)?;
        Ok(ExecPlan { compiled, descriptors, outside: None })
    }

    /// Compiles an exec by the OCI runtime that made the container (see [`Runtime::external`]). `number` is one that no other exec of it has; `command` has
    /// numbers for users and groups.
    ///
    /// # Errors
    /// As [`Runtime::exec`].
    pub fn exec_external(&self, by: &External, number: u64, exec: &Exec<'_>) -> Result<ExecPlan, Error> {
        if exec.user.is_some() || !exec.additional_groups.is_empty() {
            return Err(Error::Unsupported(format!("users and groups by name with the OCI runtime {}", by.program)));
        }
        let mut command = exec.command.clone();
        if exec.privileged {
            let all = crate::capabilities::set(self.host().bounding);
            command.set_capabilities(Some(crate::defaults::capability_sets(&all)));
        }
        let files = ExecFiles::new(self.run_directory(exec.id)?, number, by, &command)?;
        let plan = plan::external::exec(exec.id, by, &files, &command, exec.stdin, exec.discard_output, self.host())?;
        let descriptors = plan.resources().iter().map(open).collect::<Result<_, _>>()?;
        Ok(ExecPlan { compiled: CompiledExec::new(plan, None)?, descriptors, outside: Some(files) })
    }
}

fn duplicate(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    descriptor.try_clone_to_owned().map_err(Error::io("duplicate", "a pidfd"))
}
