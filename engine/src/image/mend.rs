//! Repairing what a [`check`](super::check) has found: a layer is exchanged for one that was unpacked anew, and what cannot
//! be had here is forgotten and pulled again, as if it had never been there.

use super::check::{CheckOptions, Outcome, Problem, Subject, blocking};
use super::task::Reporter;
use super::{Error, Image, Images, PullOptions};
use crate::blob::BlobRecord;
use crate::id::ContainerId;
use crate::oci::Digest;
use crate::snapshot::{LayerRecord, Staged};
use crate::state::{Durability, Snapshot, Table};

/// Records that were taken away for as long as what they speak of is fetched.
#[derive(Debug, Default)]
struct Forgotten {
    layers: Vec<(Digest, LayerRecord)>,
    blobs: Vec<(Digest, BlobRecord)>,
}

impl Images {
    /// Puts a layer that was unpacked anew in the place of the damaged one.
    pub(super) async fn exchange(&self, staged: Staged, options: &CheckOptions) -> Result<Outcome, Error> {
        if let Some(container) = self.runs_on(&staged.diff_id, options)? {
            return Ok(in_use(&container));
        }
        let images = self.clone();
        blocking(move || {
            images.sync()?;
            let shared = &images.shared;
            let damaged = shared.state.write(Durability::Power, |tx| shared.layers.replace(tx, staged))?;
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
            let mut wrong = Vec::new();
            for problem in problems.iter_mut().filter(|problem| !matches!(problem.outcome, Outcome::Repaired(_))) {
                let (table, digest) = match &problem.subject {
                    Subject::Layer(digest) => (Table::Layer, digest),
                    Subject::Blob(digest) => (Table::Blob, digest),
                    Subject::Image(_) | Subject::Record(_) => continue,
                };
                let key = (table, digest.to_string());
                let holders = self.shared.state.read(|state| state.holders((key.0, &key.1)))?;
                if !holders.contains(&(Table::Image, image.id().to_string())) {
                    continue;
                }
                match if table == Table::Layer { self.runs_on(digest, options)? } else { None } {
                    Some(container) => problem.outcome = in_use(&container),
                    None => wrong.push(key),
                }
            }
            if wrong.is_empty() {
                continue;
            }
            let outcome = self.pull_again(&image, &wrong, options, reporter).await?;
            for problem in problems.iter_mut() {
                let key = match &problem.subject {
                    Subject::Layer(digest) => (Table::Layer, digest.to_string()),
                    Subject::Blob(digest) => (Table::Blob, digest.to_string()),
                    Subject::Image(_) | Subject::Record(_) => continue,
                };
                if wrong.contains(&key) {
                    problem.outcome = outcome.clone();
                    let there = self.shared.state.read(|state| state.contains(key.0, &key.1))?;
                    if !there && matches!(outcome, Outcome::Repaired(_)) {
                        problem.outcome = Outcome::Beyond("the registry does not have it in this form".to_owned());
                    }
                }
            }
        }
        Ok(())
    }

    async fn pull_again(
        &self,
        image: &Image,
        wrong: &[(Table, String)],
        options: &CheckOptions,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        if image.digests().is_empty() {
            return Ok(Outcome::Beyond(format!(
                "no registry is known to have {}: load or build it again",
                image.shown()
            )));
        }
        let forgotten = self.forget(wrong)?;
        let mut failure = None;
        for name in image.digests() {
            let pull = PullOptions {
                platform: Some(image.config().platform()),
                auth: options.auth.get(name.registry()).cloned().unwrap_or_default(),
            };
            match self.pull_from_any(name, &pull, reporter).await {
                Ok(pulled) if pulled.id() == image.id() => {
                    return Ok(Outcome::Repaired(format!("it was fetched again from {name}")));
                }
                Ok(_) => failure = Some(format!("{name} is another image by now")),
                Err(error) => failure = Some(format!("it cannot be fetched from {name}: {error}")),
            }
        }
        self.remember_again(forgotten)?;
        Ok(Outcome::Beyond(failure.unwrap_or_default()))
    }

    /// Takes records away; what holds the things stays, so that nobody takes the things themselves away.
    fn forget(&self, wrong: &[(Table, String)]) -> Result<Forgotten, Error> {
        self.shared.state.write(Durability::Power, |tx| {
            let mut forgotten = Forgotten::default();
            for (table, key) in wrong {
                let Ok(digest) = key.parse() else { continue };
                match table {
                    Table::Layer => forgotten.layers.extend(tx.get(*table, key)?.map(|record| (digest, record))),
                    _ => forgotten.blobs.extend(tx.get(*table, key)?.map(|record| (digest, record))),
                }
                tx.delete(*table, key)?;
            }
            Ok(forgotten)
        })
    }

    /// What could not be fetched is there as it was.
    fn remember_again(&self, forgotten: Forgotten) -> Result<(), Error> {
        self.shared.state.write(Durability::Power, |tx| {
            for (digest, record) in &forgotten.layers {
                if !tx.contains(Table::Layer, &digest.to_string())? {
                    tx.put(Table::Layer, &digest.to_string(), record)?;
                }
            }
            for (digest, record) in &forgotten.blobs {
                if !tx.contains(Table::Blob, &digest.to_string())? {
                    tx.put(Table::Blob, &digest.to_string(), record)?;
                }
            }
            Ok(())
        })
    }

    /// A container that runs upon a layer: exchanging it would take its files from under it.
    fn runs_on(&self, diff_id: &Digest, options: &CheckOptions) -> Result<Option<ContainerId>, Error> {
        let runs = |key: &str| key.parse().ok().filter(|id| options.running.contains(id));
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

    /// Says of everything that is left why it is.
    pub(super) fn give_up_on_the_rest(&self, problems: &mut [Problem]) -> Result<(), Error> {
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
        Ok(())
    }
}

fn in_use(container: &ContainerId) -> Outcome {
    let short = container.as_str().get(..12).unwrap_or(container.as_str());
    Outcome::Beyond(format!("container {short} is on it: remove it and check again"))
}
