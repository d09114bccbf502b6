//! Members of the API's objects that are left out, or null, where Go's structs have a zero value.

use crate::output::value::Value;

/// The value of a member that is left out of the wire when it is zero.
pub(super) fn of_missing(name: &str) -> Option<Value> {
    Some(match name {
        "Health" | "Healthcheck" | "StopTimeout" | "Init" | "SizeRw" | "SizeRootFs" | "UsageData" | "BindOptions"
        | "Shell" | "Layers" | "ExposedPorts" | "Annotations" | "StorageOpt" | "Tmpfs" | "Sysctls"
        | "VolumeOptions" | "TmpfsOptions" | "ImageOptions" | "Container" | "ContainerConfig" | "ServerErrors"
        | "ClientErrors" => Value::Null,
        "StopSignal" | "Runtime" | "MacAddress" | "Variant" | "OsVersion" | "Created" | "Parent" | "Comment" => {
            Value::from("")
        }
        "NetworkDisabled" | "ArgsEscaped" => Value::from(false),
        "KernelMemory" | "KernelMemoryTCP" => Value::from(0),
        _ => return None,
    })
}

/// How Go prints a member that is null: what it is there tells.
pub(super) fn printed(name: &str) -> &'static str {
    match name {
        "Args"
        | "Binds"
        | "Cmd"
        | "Entrypoint"
        | "Env"
        | "OnBuild"
        | "Shell"
        | "VolumesFrom"
        | "CapAdd"
        | "CapDrop"
        | "Dns"
        | "DnsOptions"
        | "DnsSearch"
        | "ExtraHosts"
        | "GroupAdd"
        | "Links"
        | "SecurityOpt"
        | "BlkioWeightDevice"
        | "BlkioDeviceReadBps"
        | "BlkioDeviceWriteBps"
        | "BlkioDeviceReadIOps"
        | "BlkioDeviceWriteIOps"
        | "Devices"
        | "DeviceCgroupRules"
        | "DeviceRequests"
        | "Ulimits"
        | "Mounts"
        | "MaskedPaths"
        | "ReadonlyPaths"
        | "ExecIDs"
        | "Aliases"
        | "DNSNames"
        | "RepoTags"
        | "RepoDigests"
        | "Layers"
        | "Warnings"
        | "SecondaryIPAddresses"
        | "SecondaryIPv6Addresses"
        | "ServerErrors"
        | "ClientErrors" => "[]",
        "Labels" | "Volumes" | "ExposedPorts" | "PortBindings" | "Ports" | "Options" | "DriverOpts" | "Annotations"
        | "StorageOpt" | "Tmpfs" | "Sysctls" | "Networks" | "Containers" | "Data" => "map[]",
        _ => "<nil>",
    }
}
