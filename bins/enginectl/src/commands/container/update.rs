//! `enginectl update`.

use engine_api::container::UpdateResponse;
use engine_api::host_config::HostConfig;

use super::{path, words};
use crate::client::{Payload, Query, parse};
use crate::commands::several::each;
use crate::error::Error;
use crate::output::size;
use crate::session::Session;

/// Change what containers may take, whether they run or not
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Share of block devices, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Length of a processor period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<i64>,
    /// Processor time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Length of a real-time period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<i64>,
    /// Real-time processor time in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// Share of the processors against others
    #[arg(short = 'c', long, value_name = "SHARES")]
    cpu_shares: Option<i64>,
    /// Number of processors, as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Processors that may be used, as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory
    #[arg(short = 'm', long, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory that is kept when the host runs short
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 leaves swap unbounded
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<String>,
    /// Processes and threads; -1 for any number
    #[arg(long, value_name = "NUMBER")]
    pids_limit: Option<i64>,
    /// What happens after its end: no, on-failure[:COUNT], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let change = change(&args)?;
    let client = session.client()?;
    let code = each(session, &client, &args.containers, |name| {
        let client = client.clone();
        let payload = Payload::json(&change);
        let session = &*session;
        async move {
            let about = path(&name, "/update");
            let answer: UpdateResponse = parse(&about, &client.post(&about, &Query::new(), payload?).await?)?;
            for warning in answer.warnings.into_iter().flatten() {
                session.complain(format!("WARNING: {warning}"));
            }
            Ok(name)
        }
    });
    code.await
}

/// What is asked for; all else is 0, which changes nothing.
fn change(args: &Args) -> Result<HostConfig, Error> {
    let bad = |flag: &'static str| move |error| Error::Invalid(format!("invalid argument for {flag}: {error}"));
    let bytes = |flag: &'static str, text: &Option<String>| match text.as_deref() {
        Some("-1") if flag == "--memory-swap" => Ok(-1),
        Some(text) => size::parse(text).map_err(bad(flag)),
        None => Ok(0),
    };
    let change = HostConfig {
        blkio_weight: args.blkio_weight.unwrap_or(0),
        cpu_period: args.cpu_period.unwrap_or(0),
        cpu_quota: args.cpu_quota.unwrap_or(0),
        cpu_realtime_period: args.cpu_rt_period.unwrap_or(0),
        cpu_realtime_runtime: args.cpu_rt_runtime.unwrap_or(0),
        cpu_shares: args.cpu_shares.unwrap_or(0),
        nano_cpus: args.cpus.as_deref().map_or(Ok(0), words::nano_cpus).map_err(bad("--cpus"))?,
        cpuset_cpus: args.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: args.cpuset_mems.clone().unwrap_or_default(),
        memory: bytes("--memory", &args.memory)?,
        memory_reservation: bytes("--memory-reservation", &args.memory_reservation)?,
        memory_swap: bytes("--memory-swap", &args.memory_swap)?,
        pids_limit: args.pids_limit,
        restart_policy: match &args.restart {
            Some(text) => words::restart(text).map_err(Error::Invalid)?,
            None => Default::default(),
        },
        ..HostConfig::default()
    };
    if change == HostConfig::default() {
        return Err(Error::Invalid(
            "you must provide one or more flags when using this command: see 'enginectl update --help'".to_owned(),
        ));
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn asked(line: &str) -> Result<HostConfig, String> {
        let command = Args::augment_args(clap::Command::new("update"))
            .mut_arg("memory_swap", |arg| arg.allow_hyphen_values(true));
        let matches = command.try_get_matches_from(line.split(' ')).map_err(|error| error.to_string())?;
        change(&Args::from_arg_matches(&matches).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_become_a_change() {
        let change = asked("update -m 64m --memory-swap -1 --cpus 1.5 --restart on-failure:2 a b").unwrap();
        assert_eq!((change.memory, change.memory_swap, change.nano_cpus), (64 << 20, -1, 1_500_000_000));
        assert_eq!((change.restart_policy.name.as_str(), change.restart_policy.maximum_retry_count), ("on-failure", 2));
        assert_eq!(change.pids_limit, None);
        assert!(asked("update a").unwrap_err().contains("one or more flags"));
        assert!(asked("update --memory x a").unwrap_err().contains("--memory"));
    }
}
