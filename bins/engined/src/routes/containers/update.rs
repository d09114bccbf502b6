//! `POST /containers/{id}/update`

use engine::container::Change;
use engine_api::container::UpdateResponse;
use engine_api::host_config::HostConfig;
use http::StatusCode;

use crate::convert::container::host::{resources, restart_policy, to_wire};
use crate::error::Error;
use crate::extract;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

/// Refuses what a container keeps for its life, unless it is told as it is.
fn unchanged(asked: &HostConfig, now: &HostConfig) -> Result<(), Error> {
    fn differs<T: PartialEq>(asked: Option<&Vec<T>>, now: Option<&Vec<T>>) -> bool {
        asked.is_some_and(|asked| !asked.is_empty() && Some(asked) != now)
    }
    let swappiness = asked.memory_swappiness.filter(|swappiness| *swappiness != -1);
    let kept = [
        ("CgroupParent", !asked.cgroup_parent.is_empty() && asked.cgroup_parent != now.cgroup_parent),
        ("DeviceCgroupRules", differs(asked.device_cgroup_rules.as_ref(), now.device_cgroup_rules.as_ref())),
        ("DeviceRequests", differs(asked.device_requests.as_ref(), now.device_requests.as_ref())),
        ("Devices", differs(asked.devices.as_ref(), now.devices.as_ref())),
        ("KernelMemory", asked.kernel_memory > 0 || asked.kernel_memory_tcp > 0),
        ("MemorySwappiness", swappiness.is_some() && swappiness != now.memory_swappiness),
        ("OomKillDisable", asked.oom_kill_disable == Some(true) && now.oom_kill_disable != Some(true)),
        ("Ulimits", differs(asked.ulimits.as_ref(), now.ulimits.as_ref())),
    ];
    match kept.into_iter().find(|(_, changed)| *changed) {
        Some((field, _)) => Err(Error::invalid(format!("{field} cannot be changed: make the container anew"))),
        None => Ok(()),
    }
}

/// The body is the part of a host configuration that can be changed.
pub(crate) async fn update(call: Call) -> Result<Response, Error> {
    let mut asked: HostConfig = extract::json(&call.headers, call.body).await?;
    if !call.version.updates_pids_limit() {
        asked.pids_limit = None;
    }
    let mut change = Change::default();
    change.resources = resources(&asked);
    if !asked.restart_policy.name.is_empty() {
        change.restart_policy = Some(restart_policy(&asked.restart_policy)?);
    }
    let container = call.daemon.engine.containers().get(&call.name).await?;
    unchanged(&asked, &to_wire(&container.record().config.host))?;
    let warnings = container.update(change).await?;
    Ok(reply::json(StatusCode::OK, &UpdateResponse { warnings: crate::convert::nil_when_empty(warnings) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_container_keeps_is_not_changed_silently() {
        let read = |text: &str| engine_api::json::from_slice::<HostConfig>(text.as_bytes()).unwrap();
        let now = read(r#"{"Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}],"MemorySwappiness":7}"#);
        for same in [
            r#"{"Memory":4}"#,
            r#"{"Ulimits":[],"Devices":null,"MemorySwappiness":-1,"OomKillDisable":false}"#,
            r#"{"Ulimits":[{"Name":"nofile","Hard":2,"Soft":1}],"MemorySwappiness":7}"#,
        ] {
            unchanged(&read(same), &now).unwrap();
        }
        for (other, field) in [
            (r#"{"Ulimits":[{"Name":"nofile","Hard":3,"Soft":1}]}"#, "Ulimits"),
            (r#"{"MemorySwappiness":8}"#, "MemorySwappiness"),
            (r#"{"OomKillDisable":true}"#, "OomKillDisable"),
            (r#"{"DeviceCgroupRules":["c 1:1 r"]}"#, "DeviceCgroupRules"),
            (r#"{"KernelMemory":1}"#, "KernelMemory"),
        ] {
            assert!(unchanged(&read(other), &now).unwrap_err().message.starts_with(field), "{other}");
        }
    }
}
