//! Lists of containers, and removing those that do not run.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::filter::Matcher;
use super::inventory::blocking;
use super::record::Record;
use super::status::Status;
use super::{Container, ContainerFilter, Containers, Error, RemoveOptions, restore};
use crate::events::{Event, EventType};
use crate::id::ContainerId;

/// Which containers are pruned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Labels that all must have, as `key` or `key=value`.
    pub labels: Vec<String>,
    /// Labels that none may have.
    pub without_labels: Vec<String>,
    /// Only those that were made before this time, in nanoseconds since 1970.
    pub until: Option<i64>,
}

/// What was pruned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The containers.
    pub removed: Vec<ContainerId>,
    /// Bytes that they had written.
    pub reclaimed: u64,
}

impl Containers {
    /// The containers that a filter lets through, the newest first. Reads memory; never waits for a container.
    ///
    /// # Errors
    /// When the filter names a container that is not there.
    pub fn list(&self, filter: &ContainerFilter) -> Result<Vec<Arc<Record>>, Error> {
        restore::refresh(&self.shared)?;
        let mut matcher = Matcher::new(filter);
        let made = |name: &String| self.shared.find(name).map(|inner| inner.record().created_at);
        let times = |word: &str| filter.values(word).iter().map(made).collect::<Result<Vec<_>, _>>();
        matcher.before = times("before")?.into_iter().min();
        matcher.since = times("since")?.into_iter().max();
        let all: Vec<_> = self.shared.all().iter().map(|inner| inner.record()).collect();
        let ancestors = filter.values("ancestor");
        if !ancestors.is_empty() {
            // The state is read at once; an image that is not there has no containers.
            let images: Vec<_> =
                ancestors.iter().filter_map(|name| self.shared.parts.images.get(name).now_or_never()?.ok()).collect();
            let made_of = |record: &&Arc<Record>| images.iter().any(|image| record.layers.starts_with(image.layers()));
            let ids = all.iter().filter(made_of).map(|record| record.image.to_string());
            matcher.ancestors = Some(ids.collect());
        }
        let mut found: Vec<_> = all.into_iter().filter(|record| matcher.matches(record)).collect();
        found.sort_by(|one, other| other.created_at.cmp(&one.created_at).then_with(|| one.id.cmp(&other.id)));
        if let Some(limit) = filter.limit {
            found.truncate(limit);
        }
        Ok(found)
    }

    /// Removes the containers that do not run.
    ///
    /// # Errors
    /// When the state cannot be read; one that cannot be removed is passed over.
    pub async fn prune(&self, options: PruneOptions) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for record in self.list(&ContainerFilter::new().all(true))? {
            let has = |label: &String| match label.split_once('=') {
                Some((name, value)) => record.config.labels.get(name).is_some_and(|own| own == value),
                None => record.config.labels.contains_key(label),
            };
            let wanted = matches!(record.state.status, Status::Created | Status::Exited | Status::Dead)
                && restore::is_ours(&self.shared, &record)
                && options.until.is_none_or(|until| record.created_at < until)
                && options.labels.iter().all(has)
                && !options.without_labels.iter().any(has);
            let Some(inner) = self.shared.by_id(&record.id).filter(|_| wanted) else { continue };
            let container = Container { shared: Arc::clone(&self.shared), inner };
            let size = container.size().await.unwrap_or_default().0;
            match container.remove(RemoveOptions::default()).await {
                Ok(()) => {
                    pruned.removed.push(record.id);
                    pruned.reclaimed += size;
                }
                Err(error) => tracing::warn!(container = %record.id, %error, "the container is not pruned"),
            }
        }
        let event = Event::new(EventType::Container, "prune", "").attribute("reclaimed", pruned.reclaimed.to_string());
        self.shared.parts.events.publish(event);
        Ok(pruned)
    }
}

impl Container {
    /// Bytes that it has written, and bytes of its image with them.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub async fn size(&self) -> Result<(u64, u64), Error> {
        let upper = self.overlay().upper;
        let image = self.inner.record().image;
        let image = self.shared.parts.images.get(image.as_str()).await.map_or(0, |image| image.size());
        let written = blocking(move || {
            let mut seen = std::collections::BTreeSet::new();
            tree_size(&upper, &mut seen, 0).map_err(|error| Error::io("measure", &upper, error))
        })
        .await?;
        Ok((written, written + image))
    }
}

/// The deepest directory that is measured; a container may have made deeper ones to annoy.
const MAX_DEPTH: usize = 512;

/// Bytes of all files, each counted once. Symbolic links are not followed.
fn tree_size(
    path: &std::path::Path,
    seen: &mut std::collections::BTreeSet<(u64, u64)>,
    depth: usize,
) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in std::fs::read_dir(path)? {
        // What is removed meanwhile has no size.
        let Ok(entry) = entry else { continue };
        let Ok(found) = entry.path().symlink_metadata() else { continue };
        if found.is_dir() {
            if depth < MAX_DEPTH {
                sum += tree_size(&entry.path(), seen, depth + 1).unwrap_or(0);
            }
        } else if found.nlink() < 2 || seen.insert((found.dev(), found.ino())) {
            sum += found.size();
        }
    }
    Ok(sum)
}
