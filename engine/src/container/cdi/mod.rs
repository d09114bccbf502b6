//! Devices by the names of the Container Device Interface, `vendor.com/class=name`: specification files of the host say what a
//! container needs to use them.

mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use engine_runtime::spec::{Hook, Hooks, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Mount, Spec};
use engine_runtime::{Bundle, defaults};
use serde::Deserialize;

use super::Error;
use super::config::overlay_environment;
use super::host_config::DeviceRequest;

/// The largest specification, in bytes.
const MAX_LEN: u64 = 4 << 20;
/// The most specifications of one directory.
const MAX_FILES: usize = 1000;
/// Whose devices `--gpus` means, the first that are there.
const GPUS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];

/// A specification file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Specification {
    cdi_version: serde_json::Value,
    kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Device {
    name: serde_json::Value,
    #[serde(default, rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    container_edits: Edits,
}

/// What a container is given.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Edits {
    env: Option<Vec<String>>,
    device_nodes: Option<Vec<Node>>,
    mounts: Option<Vec<Place>>,
    hooks: Option<Vec<Call>>,
    #[serde(rename = "additionalGids")]
    additional_gids: Option<Vec<u32>>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    path: String,
    host_path: Option<String>,
    r#type: Option<String>,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    permissions: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Place {
    host_path: String,
    container_path: String,
    r#type: Option<String>,
    options: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Call {
    hook_name: String,
    path: String,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
}

/// What is known of all devices.
#[derive(Debug, Default)]
struct Registry {
    /// By whole name: the priority of its directory, and what it takes. Nothing when two of one priority claim it.
    devices: BTreeMap<String, (usize, Option<Claim>)>,
    /// What the devices of one file have in common.
    common: Vec<Edits>,
    /// Files that cannot be read.
    broken: Vec<String>,
}

#[derive(Clone, Debug)]
struct Claim {
    file: usize,
    edits: Edits,
}

/// What a container gets by its requests, looked up on the host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Injection {
    env: Vec<String>,
    nodes: Vec<(LinuxDevice, LinuxDeviceCgroup)>,
    mounts: Vec<Mount>,
    hooks: Vec<(String, Hook)>,
    groups: Vec<u32>,
}

/// Whether a word of `--device` is the name of one of these devices, and not a path.
pub(super) fn is_name(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |text: &str, more: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    word(vendor, "_-.")
        && vendor.starts_with(|c: char| c.is_ascii_alphabetic())
        && word(class, "_-")
        && word(name, "_-.:")
}

/// Refuses requests that no directory could answer.
pub(super) fn check(requests: &[DeviceRequest]) -> Result<(), Error> {
    requests.iter().try_for_each(|request| match request.driver.as_str() {
        "cdi" => {
            if request.count != 0 {
                return Err(Error::invalid("cannot use a count of devices with the driver \"cdi\": name them"));
            }
            match request.device_ids.iter().find(|name| !is_name(name)) {
                Some(name) => Err(Error::invalid(format!("invalid CDI device name {name:?}"))),
                None if request.device_ids.is_empty() => Err(Error::invalid("a CDI device request names no device")),
                None => Ok(()),
            }
        }
        _ if request.count != 0 && !request.device_ids.is_empty() => {
            Err(Error::invalid("cannot set both Count and DeviceIDs on device request"))
        }
        _ => Ok(()),
    })
}

/// The whole names of all devices, those left out that two specifications claim.
pub(super) fn names(directories: &[PathBuf]) -> Vec<String> {
    let known = Registry::read(directories).devices.into_iter();
    known.filter(|(_, (_, claim))| claim.is_some()).map(|(name, _)| name).collect()
}

/// Looks up what requests ask for. Reads the directories only when there are any.
pub(super) fn look_up(requests: &[DeviceRequest], directories: &[PathBuf]) -> Result<Option<Injection>, Error> {
    if requests.is_empty() {
        return Ok(None);
    }
    let registry = Registry::read(directories);
    let mut names = Vec::new();
    for request in requests {
        match request.driver.as_str() {
            "cdi" => names.extend(request.device_ids.iter().cloned()),
            "" | "nvidia" | "amd" if request.wants("gpu") => names.extend(registry.gpus(request)?),
            _ => return Err(nobody(request)),
        }
    }
    registry.inject(&names).map(Some)
}

/// In Docker's words.
fn nobody(request: &DeviceRequest) -> Error {
    let sets: Vec<String> = request.capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    Error::invalid(format!(
        "could not select device driver \"{}\" with capabilities: [{}]",
        request.driver,
        sets.join(" ")
    ))
}

impl DeviceRequest {
    fn wants(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|set| set.iter().any(|one| one == capability))
    }
}

impl Registry {
    /// Later directories win.
    fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        for (priority, directory) in directories.iter().enumerate() {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).take(MAX_FILES).collect();
            files.retain(|path| {
                path.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|one| extension == *one))
            });
            files.sort();
            for path in files {
                match specification(&path) {
                    Ok(specification) => registry.add(specification, priority),
                    Err(why) => registry.broken.push(format!("{}: {why}", path.display())),
                }
            }
        }
        registry
    }

    fn add(&mut self, of: Specification, priority: usize) {
        let file = self.common.len();
        self.common.push(of.container_edits);
        for device in of.devices {
            let name = device.name.as_str().map_or_else(|| device.name.to_string(), str::to_owned);
            let claim = Some(Claim { file, edits: device.container_edits });
            match self.devices.get_mut(&format!("{}={name}", of.kind)) {
                Some((known, held)) if *known == priority => *held = None,
                Some(known) => *known = (priority, claim),
                None => drop(self.devices.insert(format!("{}={name}", of.kind), (priority, claim))),
            }
        }
    }

    /// The names that a request for GPUs means.
    fn gpus(&self, request: &DeviceRequest) -> Result<Vec<String>, Error> {
        let kinds = GPUS.iter().filter(|kind| request.driver.is_empty() || kind.starts_with(&request.driver));
        let has = |name: &String| self.devices.contains_key(name);
        for kind in kinds {
            let of_kind: Vec<&String> =
                self.devices.keys().filter(|name| name.split_once('=').is_some_and(|(of, _)| of == *kind)).collect();
            if of_kind.is_empty() {
                continue;
            }
            if !request.device_ids.is_empty() {
                return Ok(request.device_ids.iter().map(|id| format!("{kind}={id}")).collect());
            }
            let all = format!("{kind}=all");
            let numbered = (0..).map(|number: i64| format!("{kind}={number}")).take_while(has);
            return match request.count {
                count if count < 0 && has(&all) => Ok(vec![all]),
                count if count < 0 => Ok(numbered.collect()),
                count => {
                    let names: Vec<String> = numbered.take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
                    if i64::try_from(names.len()).is_ok_and(|found| found < count) {
                        return Err(Error::invalid(format!(
                            "{count} GPUs were asked for and {} are there",
                            names.len()
                        )));
                    }
                    Ok(names)
                }
            };
        }
        Err(nobody(request))
    }

    fn inject(&self, names: &[String]) -> Result<Injection, Error> {
        let mut injection = Injection::default();
        let failed = |why: String| Error::invalid(format!("CDI device injection failed: {why}"));
        let missing: Vec<&str> =
            names.iter().filter(|name| !self.devices.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            let broken = match self.broken.as_slice() {
                [] => String::new(),
                broken => format!(" (files that cannot be read: {})", broken.join("; ")),
            };
            return Err(failed(format!("unresolvable CDI devices {}{broken}", missing.join(", "))));
        }
        let mut done = BTreeSet::new();
        let mut files = Vec::new();
        for name in names {
            if !done.insert(name) {
                continue;
            }
            let claim = self.devices.get(name).and_then(|(_, claim)| claim.as_ref());
            let claim = claim.ok_or_else(|| failed(format!("conflicting specifications of {name}")))?;
            if !files.contains(&claim.file) {
                files.push(claim.file);
                injection.take(&self.common[claim.file]).map_err(failed)?;
            }
            injection.take(&claim.edits).map_err(failed)?;
        }
        Ok(injection)
    }
}

fn specification(path: &Path) -> Result<Specification, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|found| found.is_file() && found.len() <= MAX_LEN) {
        return Err(format!("it is no file or larger than {MAX_LEN} bytes"));
    }
    file.take(MAX_LEN).read_to_string(&mut text).map_err(|error| error.to_string())?;
    let specification: Specification = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())?
    } else {
        serde_json::from_value(yaml::read(&text)?).map_err(|error| error.to_string())?
    };
    if !specification.cdi_version.as_str().is_some_and(|version| version.starts_with("0.") || version.starts_with("1."))
    {
        return Err(format!("unknown version {}", specification.cdi_version));
    }
    if !is_name(&format!("{}=x", specification.kind)) {
        return Err(format!("invalid kind {:?}", specification.kind));
    }
    Ok(specification)
}

impl Injection {
    fn take(&mut self, edits: &Edits) -> Result<(), String> {
        if edits.intel_rdt.is_some() || edits.net_devices.is_some() {
            return Err("intelRdt and netDevices are not supported".to_owned());
        }
        self.env.extend(edits.env.iter().flatten().cloned());
        for node in edits.device_nodes.iter().flatten() {
            self.nodes.push(node.look_up()?);
        }
        for place in edits.mounts.iter().flatten() {
            let mut options = place.options.clone().unwrap_or_default();
            let kind = place.r#type.clone().unwrap_or_default();
            if kind.is_empty() && !options.iter().any(|option| option == "bind" || option == "rbind") {
                options.insert(0, "bind".to_owned());
            }
            let mut mount = Mount::default();
            mount
                .set_destination(PathBuf::from(&place.container_path))
                .set_source(Some(PathBuf::from(&place.host_path)))
                .set_typ(Some(kind).filter(|kind| !kind.is_empty()))
                .set_options(Some(options));
            self.mounts.push(mount);
        }
        for call in edits.hooks.iter().flatten() {
            let mut hook = Hook::default();
            hook.set_path(PathBuf::from(&call.path))
                .set_args(call.args.clone())
                .set_env(call.env.clone())
                .set_timeout(call.timeout);
            self.hooks.push((call.hook_name.clone(), hook));
        }
        self.groups.extend(edits.additional_gids.iter().flatten());
        Ok(())
    }

    /// Puts everything into a container.
    pub(super) fn apply(self, bundle: &mut Bundle) -> Result<(), Error> {
        let spec = &mut bundle.spec;
        if let Some(process) = spec.process_mut() {
            let mut environment = process.env().clone().unwrap_or_default();
            overlay_environment(&mut environment, &self.env);
            process.set_env(Some(environment));
            let mut user = process.user().clone();
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(self.groups);
            user.set_additional_gids(Some(groups).filter(|groups| !groups.is_empty()));
            process.set_user(user);
        }
        if let Some(linux) = spec.linux_mut() {
            let mut devices = linux.devices().clone().unwrap_or_default();
            let mut resources = linux.resources().clone().unwrap_or_default();
            let mut rules = resources.devices().clone().unwrap_or_default();
            for (node, rule) in self.nodes {
                devices.retain(|other| other.path() != node.path());
                devices.push(node);
                rules.push(rule);
            }
            resources.set_devices(Some(rules));
            linux.set_resources(Some(resources)).set_devices(Some(devices));
        }
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.extend(self.mounts);
        spec.set_mounts(Some(mounts));
        add_hooks(spec, self.hooks)
    }
}

fn add_hooks(spec: &mut Spec, calls: Vec<(String, Hook)>) -> Result<(), Error> {
    if calls.is_empty() {
        return Ok(());
    }
    let mut hooks: Hooks = spec.hooks().clone().unwrap_or_default();
    macro_rules! add {
        ($hook:expr, $get:ident, $set:ident) => {{
            let mut all = hooks.$get().clone().unwrap_or_default();
            all.push($hook);
            hooks.$set(Some(all));
        }};
    }
    for (name, hook) in calls {
        match name.as_str() {
            // What came before createRuntime has its place.
            "prestart" | "createRuntime" => add!(hook, create_runtime, set_create_runtime),
            "createContainer" => add!(hook, create_container, set_create_container),
            "startContainer" => add!(hook, start_container, set_start_container),
            "poststart" => add!(hook, poststart, set_poststart),
            "poststop" => add!(hook, poststop, set_poststop),
            other => return Err(Error::invalid(format!("CDI device injection failed: invalid hook name {other:?}"))),
        }
    }
    spec.set_hooks(Some(hooks));
    Ok(())
}

impl Node {
    /// What the specification leaves open is as it is on the host.
    fn look_up(&self) -> Result<(LinuxDevice, LinuxDeviceCgroup), String> {
        let source = self.host_path.as_deref().filter(|path| !path.is_empty()).unwrap_or(&self.path);
        if !Path::new(&self.path).is_absolute() {
            return Err(format!("invalid device path {:?}", self.path));
        }
        let found = std::fs::metadata(source);
        let kind = match (self.r#type.as_deref().unwrap_or_default(), &found) {
            ("b", _) => LinuxDeviceType::B,
            ("c" | "u", _) => LinuxDeviceType::C,
            ("p", _) => LinuxDeviceType::P,
            ("", Ok(found)) if found.file_type().is_block_device() => LinuxDeviceType::B,
            ("", Ok(found)) if found.file_type().is_char_device() => LinuxDeviceType::C,
            ("", Ok(found)) if found.file_type().is_fifo() => LinuxDeviceType::P,
            ("", Ok(_)) => return Err(format!("{source} is not a device node")),
            ("", Err(error)) => return Err(format!("failed to stat CDI host device {source:?}: {error}")),
            (other, _) => return Err(format!("device {:?}: invalid type {other:?}", self.path)),
        };
        let number = found.as_ref().map_or(0, MetadataExt::rdev);
        let or = |said: Option<i64>, of: u32| said.filter(|said| *said != 0).unwrap_or_else(|| of.into());
        let (major, minor) = match (self.major, self.minor) {
            (Some(major), Some(minor)) if major != 0 => (major, minor),
            (major, minor) => (or(major, rustix::fs::major(number)), or(minor, rustix::fs::minor(number))),
        };
        if (major, minor) == (0, 0) && kind != LinuxDeviceType::P {
            return Err(format!("device {source}: its number is not known"));
        }
        let access = self.permissions.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
        if !access.bytes().all(|byte| b"rwm".contains(&byte)) {
            return Err(format!("device {:?}: invalid permissions {access:?}", self.path));
        }
        let mut device = LinuxDevice::default();
        device
            .set_path(PathBuf::from(&self.path))
            .set_typ(kind)
            .set_major(major)
            .set_minor(minor)
            .set_file_mode(self.file_mode.or_else(|| found.as_ref().ok().map(|found| found.mode() & 0o777)))
            .set_uid(self.uid.or_else(|| found.as_ref().ok().map(MetadataExt::uid)))
            .set_gid(self.gid.or_else(|| found.as_ref().ok().map(MetadataExt::gid)));
        Ok((device, defaults::device_rule(true, kind, Some(major), Some(minor), access)))
    }
}

#[cfg(test)]
mod tests;
