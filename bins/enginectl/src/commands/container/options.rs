//! The flags that describe a container, shared by `run` and `create`.

/// What a container shall be.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Options {
    /// Add a host to the container's hosts file, as NAME:ADDRESS
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Add an annotation, passed on to the runtime
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Attach to stdin, stdout or stderr
    #[arg(short = 'a', long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Weight of block I/O, 10 to 1000, 0 to turn it off
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) blkio_weight: Option<u16>,
    /// Weight of block I/O on a device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// Add a Linux capability
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Take a Linux capability away
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// The cgroup under which the container's is made
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Cgroup namespace: host or private
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<String>,
    /// CFS period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<i64>,
    /// CFS quota in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_quota: Option<i64>,
    /// Real-time period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<i64>,
    /// Real-time runtime in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<i64>,
    /// Number of CPUs, as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// CPUs to run on, as 0-3 or 0,1
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use, as 0-3 or 0,1
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Add a device of the host, or one by its CDI name (vendor.com/class=name)
    #[arg(long, value_name = "HOST[:CONTAINER[:rwm]]")]
    pub(crate) device: Vec<String>,
    /// Add a rule to the allowed devices
    #[arg(long, value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Limit reading from a device, bytes a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub(crate) device_read_bps: Vec<String>,
    /// Limit reading from a device, operations a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_read_iops: Vec<String>,
    /// Limit writing to a device, bytes a second
    #[arg(long, value_name = "DEVICE:BYTES")]
    pub(crate) device_write_bps: Vec<String>,
    /// Limit writing to a device, operations a second
    #[arg(long, value_name = "DEVICE:NUMBER")]
    pub(crate) device_write_iops: Vec<String>,
    /// Set a DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Set an option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// Set a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// NIS domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Run this program instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Set an environment variable; NAME alone takes the client's value
    #[arg(short = 'e', long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) expose: Vec<String>,
    /// Add GPUs that the host describes (CDI): all, a number, or device=ID
    #[arg(long, value_name = "GPUS")]
    pub(crate) gpus: Option<String>,
    /// Add a further group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Command that checks health
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Check health by a request from within the container's network, as http://localhost:8080/up
    #[arg(long, value_name = "URL", conflicts_with_all = ["health_cmd", "health_tcp"])]
    pub(crate) health_http: Option<String>,
    /// Time between two checks, as 30s
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_interval: Option<String>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_retries: Option<i64>,
    /// Time between two checks during the start period
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_start_interval: Option<String>,
    /// Time in which failures do not count
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_start_period: Option<String>,
    /// Check health by a connection from within the container's network, as 5432
    #[arg(long, value_name = "[ADDRESS:]PORT", conflicts_with = "health_cmd")]
    pub(crate) health_tcp: Option<String>,
    /// Time one check may take
    #[arg(long, value_name = "DURATION")]
    pub(crate) health_timeout: Option<String>,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Keep stdin open
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<String>,
    /// IPC namespace: none, private, shareable, host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// Set a label
    #[arg(short = 'l', long, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub(crate) link: Vec<String>,
    /// Link-local address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) link_local_ip: Vec<String>,
    /// Where output goes
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Set an option of the log driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<String>,
    /// Limit memory, as 512m or 2g
    #[arg(short = 'm', long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Soft limit of memory
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// Limit memory and swap together; -1 is no limit
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_swap: Option<String>,
    /// How willing to swap, 0 to 100
    #[arg(long, value_name = "NUMBER")]
    pub(crate) memory_swappiness: Option<i64>,
    /// Mount a file system, as type=bind,source=DIR,target=PATH
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Connect to a network; none, host, bridge, container:NAME or a network's name
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// Add a name of the container on the network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// Do not use the image's health check
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
    /// Do not kill for want of memory
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// How likely to be killed for want of memory, -1000 to 1000
    #[arg(long, value_name = "NUMBER")]
    pub(crate) oom_score_adj: Option<i64>,
    /// PID namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// Limit the number of processes; -1 is no limit
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<i64>,
    /// Platform of the image, as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Do not ask for signatures, which is the case: =false is refused, for none are looked at
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
          value_parser = crate::args::truth, action = clap::ArgAction::Set)]
    pub(crate) disable_content_trust: bool,
    /// Only default, the one of Linux: the others are of Windows
    #[arg(long, value_name = "TECHNOLOGY")]
    pub(crate) isolation: Option<String>,
    /// Give all capabilities and devices
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Publish a port of the container, as 8080:80
    #[arg(short = 'p', long, value_name = "PORTS")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports on free ones
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Pull the image before: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: String,
    /// Do not show the pull
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,
    /// Make the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// When to start again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Remove the container when it ends
    #[arg(long = "rm", id = "remove")]
    pub(crate) remove: bool,
    /// The runtime
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<String>,
    /// Security option, as seccomp=FILE or no-new-privileges
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Signal that stops it
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds from that signal to SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<i64>,
    /// Option of the storage driver
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) storage_opt: Vec<String>,
    /// Set a kernel parameter of its namespaces
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Give it a terminal
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// Set a limit, as nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// User, as name|uid[:group|gid]
    #[arg(short = 'u', long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// Mount a directory of the host or a volume
    #[arg(short = 'v', long, value_name = "[SOURCE:]PATH[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Driver of volumes that are made
    #[arg(long, value_name = "DRIVER")]
    pub(crate) volume_driver: Option<String>,
    /// Mount all volumes of another container
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub(crate) volumes_from: Vec<String>,
    /// Working directory
    #[arg(short = 'w', long, value_name = "PATH")]
    pub(crate) workdir: Option<String>,
    /// Print this help
    #[arg(long, action = clap::ArgAction::Help)]
    pub(crate) help: Option<bool>,
    /// The image, the command and its arguments
    #[arg(value_name = "IMAGE [COMMAND] [ARG...]", required = true, trailing_var_arg = true)]
    pub(crate) arguments: Vec<String>,
}
