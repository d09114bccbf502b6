//! Profiles: rules that depend on the container's capabilities, the architecture and the kernel, as Docker's users write
//! them in JSON.

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::Deserialize;

use crate::{Error, Host, KernelVersion, capabilities};

/// Bytes of the longest profile that is read.
const MAX_LEN: usize = 1 << 20;

/// A seccomp profile that is not fitted to a container yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(super) default_action: LinuxSeccompAction,
    pub(super) default_errno: Option<u32>,
    pub(super) flags: Option<Vec<LinuxSeccompFilterFlag>>,
    /// An architecture of machines and those that it can also run. Empty: the machine's own only.
    pub(super) architectures: Vec<(Arch, Vec<Arch>)>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: LinuxSeccompAction,
    pub(super) errno: Option<u32>,
    pub(super) arguments: Vec<LinuxSeccompArg>,
    /// All of it must hold for the rule to count.
    pub(super) includes: Condition,
    /// None of it may hold.
    pub(super) excludes: Condition,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) capabilities: Vec<Capability>,
    /// In Go's words for them, as `amd64`.
    pub(super) arches: Vec<String>,
    pub(super) min_kernel: Option<KernelVersion>,
}

impl Condition {
    pub(super) fn capability(capability: Capability) -> Self {
        Self { capabilities: vec![capability], ..Self::default() }
    }
}

impl Rule {
    /// Allows the calls whose names are the words of `names`.
    pub(super) fn allow(names: &str) -> Self {
        Self {
            names: names.split_whitespace().map(str::to_owned).collect(),
            action: LinuxSeccompAction::ScmpActAllow,
            errno: None,
            arguments: Vec::new(),
            includes: Condition::default(),
            excludes: Condition::default(),
        }
    }

    pub(super) fn errno(names: &str, errno: i32) -> Self {
        let action = LinuxSeccompAction::ScmpActErrno;
        Self { action, errno: Some(errno.unsigned_abs()), ..Self::allow(names) }
    }

    pub(super) fn when(mut self, index: usize, op: LinuxSeccompOperator, value: u64, two: Option<u64>) -> Self {
        let mut argument = LinuxSeccompArgBuilder::default().index(index).op(op).value(value);
        if let Some(two) = two {
            argument = argument.value_two(two);
        }
        // Every field has a default, so building cannot fail.
        self.arguments.extend(argument.build());
        self
    }

    pub(super) fn include(mut self, condition: Condition) -> Self {
        self.includes = condition;
        self
    }

    pub(super) fn exclude(mut self, condition: Condition) -> Self {
        self.excludes = condition;
        self
    }

    fn counts(&self, held: &Capabilities, machine: &str, kernel: KernelVersion) -> bool {
        let Condition { capabilities, arches, min_kernel } = &self.excludes;
        if arches.iter().any(|arch| arch == machine)
            || capabilities.iter().any(|capability| held.contains(capability))
            || min_kernel.is_some_and(|version| kernel >= version)
        {
            return false;
        }
        let Condition { capabilities, arches, min_kernel } = &self.includes;
        (arches.is_empty() || arches.iter().any(|arch| arch == machine))
            && capabilities.iter().all(|capability| held.contains(capability))
            && min_kernel.is_none_or(|version| kernel >= version)
    }
}

impl Profile {
    /// Docker's own profile: io_uring, kernel keys, eBPF, mounts, new namespaces and what else reaches past a container are
    /// refused with `EPERM`.
    #[must_use]
    pub fn docker() -> Self {
        super::docker::profile()
    }

    /// Reads a profile in Docker's JSON form, which extends the OCI's by `archMap`, `includes` and `excludes`.
    ///
    /// # Errors
    /// Says what is unknown or contradicts itself.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        if json.len() > MAX_LEN {
            return Err(Error::Invalid(format!("seccomp profile is longer than {MAX_LEN} bytes")));
        }
        let json: Json = serde_json::from_slice(json)
            .map_err(|error| Error::Invalid(format!("Decoding seccomp profile failed: {error}")))?;
        json.profile()
    }

    /// The OCI form for a container that holds `held` (its bounding set) on `host`.
    #[must_use]
    pub fn resolve(&self, held: &Capabilities, host: &Host) -> LinuxSeccomp {
        self.clone().into_resolved(held, host)
    }

    /// As [`Self::resolve`], for who needs the profile only once: hundreds of names are moved and not copied.
    #[must_use]
    pub fn into_resolved(self, held: &Capabilities, host: &Host) -> LinuxSeccomp {
        let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        self.resolve_on(held, machine, host.kernel)
    }

    pub(super) fn resolve_on(self, held: &Capabilities, machine: &str, kernel: KernelVersion) -> LinuxSeccomp {
        let native = if machine == "arm64" { Arch::ScmpArchAarch64 } else { Arch::ScmpArchX86_64 };
        let mut architectures = vec![native];
        if let Some((_, more)) = self.architectures.iter().find(|(of, _)| *of == native) {
            architectures.extend(more);
        }
        let calls = self.rules.into_iter().filter(|rule| rule.counts(held, machine, kernel)).map(|rule| {
            let mut call = LinuxSyscall::default();
            call.set_names(rule.names)
                .set_action(rule.action)
                .set_errno_ret(rule.errno)
                .set_args(if rule.arguments.is_empty() { None } else { Some(rule.arguments) });
            call
        });
        let mut seccomp = LinuxSeccomp::default();
        seccomp
            .set_default_action(self.default_action)
            .set_default_errno_ret(self.default_errno)
            .set_architectures(Some(architectures))
            .set_flags(self.flags)
            .set_syscalls(Some(calls.collect()));
        seccomp
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Json {
    default_action: LinuxSeccompAction,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<Arch>,
    #[serde(default)]
    arch_map: Vec<JsonArchitecture>,
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Vec<JsonRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JsonArchitecture {
    architecture: Arch,
    #[serde(default)]
    sub_architectures: Option<Vec<Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JsonRule {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: LinuxSeccompAction,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Option<JsonCondition>,
    #[serde(default)]
    excludes: Option<JsonCondition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JsonCondition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    #[serde(default)]
    min_kernel: Option<String>,
}

impl Json {
    fn profile(self) -> Result<Profile, Error> {
        let invalid = |text: &str| Err(Error::Invalid(format!("seccomp profile: {text}")));
        if self.listener_path.is_some() || self.listener_metadata.is_some() {
            return Err(Error::Unsupported("a listener in a seccomp profile".to_owned()));
        }
        if !self.architectures.is_empty() && !self.arch_map.is_empty() {
            return invalid("use either 'architectures' or 'archMap'");
        }
        let mut architectures: Vec<_> = self
            .arch_map
            .into_iter()
            .map(|map| (map.architecture, map.sub_architectures.unwrap_or_default()))
            .collect();
        // A plain list has no main architecture: each machine finds its own and takes the rest along.
        for native in [Arch::ScmpArchX86_64, Arch::ScmpArchAarch64] {
            if self.architectures.contains(&native) {
                let rest = self.architectures.iter().copied().filter(|arch| *arch != native).collect();
                architectures.push((native, rest));
            }
        }
        let rules = self.syscalls.into_iter().map(JsonRule::rule).collect::<Result<_, _>>()?;
        Ok(Profile {
            default_action: self.default_action,
            default_errno: self.default_errno_ret,
            flags: self.flags,
            architectures,
            rules,
        })
    }
}

impl JsonRule {
    fn rule(self) -> Result<Rule, Error> {
        let mut names = self.names;
        if let Some(name) = self.name {
            if !names.is_empty() {
                return Err(Error::Invalid("seccomp profile: use either 'name' or 'names'".to_owned()));
            }
            names.push(name);
        }
        Ok(Rule {
            names,
            action: self.action,
            errno: self.errno_ret,
            arguments: self.args.unwrap_or_default(),
            includes: self.includes.unwrap_or_default().condition()?,
            excludes: self.excludes.unwrap_or_default().condition()?,
        })
    }
}

impl JsonCondition {
    fn condition(self) -> Result<Condition, Error> {
        let capability = |name: &String| {
            capabilities::parse(name)
                .ok_or_else(|| Error::Invalid(format!("seccomp profile: unknown capability {name:?}")))
        };
        let min_kernel = match self.min_kernel.as_deref() {
            None | Some("") => None,
            Some(text) => Some(version(text).ok_or_else(|| {
                Error::Invalid(format!(
                    "seccomp profile: invalid kernel version {text:?}, expected \"<kernel>.<major>\""
                ))
            })?),
        };
        let capabilities = self.caps.iter().map(capability).collect::<Result<_, _>>()?;
        Ok(Condition { capabilities, arches: self.arches, min_kernel })
    }
}

fn version(text: &str) -> Option<KernelVersion> {
    let (major, minor) = text.split_once('.')?;
    let version = KernelVersion { major: major.parse().ok()?, minor: minor.parse().ok()? };
    (version != KernelVersion { major: 0, minor: 0 }).then_some(version)
}
