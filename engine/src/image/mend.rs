//! Repairing what a [`check`](super::check) has found: a layer is exchanged for one that was unpacked anew, and what cannot
//! be had here is pulled again, as if it had never been there; what is there stays until what comes can take its place.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::check::{CheckOptions, Outcome, Problem, Subject, blocking};
use super::task::Reporter;
use super::{Error, Image, Images, PullOptions};
use crate::id::{ContainerId, ImageId};
use crate::oci::Digest;
use crate::snapshot::Staged;
use crate::state::{Durability, Snapshot, Table};

/// What is here and is not to be believed: whoever pulls fetches it once more, and puts it in the place of what is there.
/// Until then everything stays as it is.
#[derive(Debug, Default)]
pub(super) struct Distrusted {
    wrong: Mutex<BTreeSet<(Table, Digest)>>,
}

impl Distrusted {
    pub(super) fn new(wrong: impl IntoIterator<Item = (Table, Digest)>) -> Self {
        Self { wrong: Mutex::new(wrong.into_iter().collect()) }
    }

    pub(super) fn contains(&self, table: Table, digest: &Digest) -> bool {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).contains(&(table, *digest))
    }

    /// It has been replaced.
    pub(super) fn trust(&self, table: Table, digest: &Digest) {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).remove(&(table, *digest));
    }
}

impl Images {
    /// Puts a layer that was unpacked anew in the place of the damaged one.
    pub(super) async fn exchange(&self, staged: Staged, options: &CheckOptions) -> Result<Outcome, Error> {
        let (images, running) = (self.clone(), options.running.clone());
        blocking(move || {
            if let Some(container) = images.runs_on(&staged.diff_id, &running)? {
                return Ok(in_use(&container));
            }
            images.sync()?;
            let shared = &images.shared;
            let damaged = shared.state.write(Durability::Power, |tx| shared.layers.replace(tx, staged, None))?;
            if let Some(damaged) = damaged {
                damaged.remove();
            }
            Ok(Outcome::Repaired("it was unpacked again".to_owned()))
        })
        .await
    }

    /// Pulls the images of everything that is still wrong, where it is known whence they came.
    pub(super) async fn fetch_again(
        &self,
        problems: &mut [Problem],
        options: &CheckOptions,
        reporter: &Reporter,
    ) -> Result<(), Error> {
        for image in self.list().await? {
            let open = problems.iter().enumerate();
            let open = open.filter(|(_, problem)| !matches!(problem.outcome, Outcome::Repaired(_)));
            let open: Vec<_> = open.filter_map(|(index, problem)| Some((index, thing(&problem.subject)?))).collect();
            if open.is_empty() {
                return Ok(());
            }
            let (images, id, running) = (self.clone(), *image.id(), options.running.clone());
            let suffering = blocking(move || images.suffering(&id, open, &running)).await?;
            let mut wrong = Vec::new();
            for (index, thing, container) in suffering {
                match container {
                    Some(container) => problems[index].outcome = in_use(&container),
                    None => wrong.push((index, thing)),
                }
            }
            if wrong.is_empty() {
                continue;
            }
            let distrusted = Distrusted::new(wrong.iter().map(|(_, thing)| *thing));
            let outcome = self.pull_again(&image, &distrusted, options, reporter).await?;
            for (index, (table, digest)) in wrong {
                let is_replaced = !distrusted.contains(table, &digest);
                problems[index].outcome = match &outcome {
                    Outcome::Repaired(_) if !is_replaced => {
                        Outcome::Beyond("the registry does not have it in this form".to_owned())
                    }
                    // A pull that failed has replaced some of it perhaps.
                    Outcome::Beyond(_) if is_replaced => Outcome::Repaired("it was fetched again".to_owned()),
                    outcome => outcome.clone(),
                };
            }
        }
        Ok(())
    }

    /// Of what is wrong, what this image has: by its place, and with a container that keeps it from being exchanged.
    fn suffering(&self, id: &ImageId, open: Vec<(usize, Thing)>, running: &Running) -> Result<Vec<Suffering>, Error> {
        let mut found = Vec::new();
        for (index, (table, digest)) in open {
            let holders = self.shared.state.read(|state| state.holders((table, &digest.to_string())))?;
            if holders.contains(&(Table::Image, id.to_string())) {
                let container = if table == Table::Layer { self.runs_on(&digest, running)? } else { None };
                found.push((index, (table, digest), container));
            }
        }
        Ok(found)
    }

    async fn pull_again(
        &self,
        image: &Image,
        distrusted: &Distrusted,
        options: &CheckOptions,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        if image.digests().is_empty() {
            return Ok(Outcome::Beyond(format!(
                "no registry is known to have {}: load or build it again",
                image.shown()
            )));
        }
        let mut failure = None;
        for name in image.digests() {
            let pull = PullOptions {
                platform: Some(image.config().platform()),
                auth: options.auth.get(name.registry()).cloned().unwrap_or_default(),
            };
            match self.pull_from_any(name, &pull, distrusted, reporter).await {
                Ok(pulled) if pulled.id() == image.id() => {
                    return Ok(Outcome::Repaired(format!("it was fetched again from {name}")));
                }
                Ok(_) => failure = Some(format!("{name} is another image by now")),
                Err(error) => failure = Some(format!("it cannot be fetched from {name}: {error}")),
            }
        }
        Ok(Outcome::Beyond(failure.unwrap_or_default()))
    }

    /// A container that runs upon a layer: exchanging it would take its files from under it.
    fn runs_on(&self, diff_id: &Digest, running: &Running) -> Result<Option<ContainerId>, Error> {
        let runs = |key: &str| key.parse().ok().filter(|id| running.contains(id));
        self.shared.state.read(|state: &Snapshot<'_>| {
            for (table, key) in state.holders((Table::Layer, &diff_id.to_string()))? {
                let holders = match table {
                    Table::Image => state.holders((table, &key))?,
                    _ => vec![(table, key)],
                };
                for (_, key) in holders.iter().filter(|(table, _)| *table == Table::Container) {
                    if let Some(id) = runs(key) {
                        return Ok(Some(id));
                    }
                }
            }
            Ok(None)
        })
    }
}

type Thing = (Table, Digest);
type Running = BTreeSet<ContainerId>;
type Suffering = (usize, Thing, Option<ContainerId>);

/// What is stored, of what may be wrong.
fn thing(subject: &Subject) -> Option<Thing> {
    match subject {
        Subject::Layer(digest) => Some((Table::Layer, *digest)),
        Subject::Blob(digest) => Some((Table::Blob, *digest)),
        Subject::Image(_) | Subject::Record(_) => None,
    }
}

/// Says of everything that is left why it is.
pub(super) fn give_up_on_the_rest(problems: &mut [Problem]) {
    for problem in problems.iter_mut().filter(|problem| problem.outcome == Outcome::Found) {
        problem.outcome = Outcome::Beyond(
            match &problem.subject {
                Subject::Blob(_) | Subject::Layer(_) => "only containers have it, and no image says whence it came",
                Subject::Image(_) => "remove the image and pull, load or build it again",
                Subject::Record(_) => "what it spoke of is not known any more: pull, load or build it again",
            }
            .to_owned(),
        );
    }
}

fn in_use(container: &ContainerId) -> Outcome {
    let short = container.as_str().get(..12).unwrap_or(container.as_str());
    Outcome::Beyond(format!("container {short} is on it: remove it and check again"))
}
