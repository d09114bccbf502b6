//! `pause` and `resume`.

use super::failure::Failure;
use super::flags::Place;
use super::state::{Record, Status};
use super::{Call, Verb};

pub(super) const PAUSE: Verb = Verb {
    name: "pause",
    words: "ID",
    about: "Stop all processes of a container",
    flags: &[],
    place: Place::Anywhere,
    count: (1, 1),
    run: pause,
};

pub(super) const RESUME: Verb = Verb {
    name: "resume",
    words: "ID",
    about: "Let all processes of a container go on",
    flags: &[],
    place: Place::Anywhere,
    count: (1, 1),
    run: resume,
};

fn pause(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    let status = Record::read(&runtime, call.id())?.status(&runtime)?;
    if !matches!(status, Status::Running | Status::Created) {
        return Err(Failure::new(format!("container not running or created: {}", status.name())));
    }
    runtime.cgroup(call.id())?.freeze()?;
    Ok(0)
}

fn resume(call: &Call<'_>) -> Result<u8, Failure> {
    let runtime = call.runtime()?;
    if Record::read(&runtime, call.id())?.status(&runtime)? != Status::Paused {
        return Err(Failure::new("container not paused"));
    }
    runtime.cgroup(call.id())?.thaw()?;
    Ok(0)
}
