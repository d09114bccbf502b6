//! A container's changes as a new image.

use std::sync::Arc;

use super::inventory::{blocking, uninterrupted};
use super::{Config, Container, Error, Record, Status};
use crate::image::{Image, Images, Layering};
use crate::oci::{Execution, ImageConfig, Reference};

/// How a container becomes an image.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CommitOptions {
    /// The name that the image gets.
    pub reference: Option<Reference>,
    /// The remark in its history.
    pub comment: String,
    /// Who made it.
    pub author: String,
    /// Stop the container's processes meanwhile, so that its files are of one moment.
    pub pause: bool,
    /// What is to be different from the container, each an instruction of a Dockerfile.
    pub changes: Vec<String>,
    /// The same as a document: what it says lies above what the container says.
    pub config: Option<serde_json::Value>,
}

impl Default for CommitOptions {
    fn default() -> Self {
        Self {
            reference: None,
            comment: String::new(),
            author: String::new(),
            pause: true,
            changes: Vec::new(),
            config: None,
        }
    }
}

impl CommitOptions {
    /// An image of this name, of a container whose processes stand still meanwhile.
    #[must_use]
    pub fn named(reference: Reference) -> Self {
        Self { reference: Some(reference), ..Self::default() }
    }

    /// Adds a change.
    #[must_use]
    pub fn change(mut self, change: impl Into<String>) -> Self {
        self.changes.push(change.into());
        self
    }
}

impl Container {
    /// Makes an image of the container's image and of what the container has changed; volumes and other mounts are no
    /// part of it. When this is dropped what was paused goes on, and no image is made unless it is as good as there.
    ///
    /// # Errors
    /// When a change makes no sense, or its files cannot be read; nothing is made then.
    pub async fn commit(&self, options: CommitOptions) -> Result<Image, Error> {
        self.owned()?;
        let record = self.inner.record();
        let images = self.shared.parts.images.clone();
        let base = images.get(record.image.as_str()).await.ok();
        let mut layering = Layering::new(base.as_ref(), record.layers.clone());
        layering.config = configuration(&record, base.as_ref());
        layering.reference = options.reference.clone();
        layering.created_by = record.config.command.join(" ");
        layering.comment.clone_from(&options.comment);
        layering.author.clone_from(&options.author);
        layering.container = record.id.to_string();
        layering.container_config = container_config(&record);
        layering.change(options.config.clone(), &options.changes)?;
        let wanted = Arc::new(());
        layering.only_while(&wanted);
        let (this, pause) = (self.clone(), options.pause && record.state.status == Status::Running);
        let made = uninterrupted(async move {
            let image = this.layered(images, layering, pause).await?;
            let named = options.reference.as_ref().map(ToString::to_string).unwrap_or_default();
            let more = [("comment", options.comment), ("imageID", image.id().to_string()), ("imageRef", named)];
            this.shared.tell(&record, "commit", &more);
            Ok(image)
        })
        .await;
        drop(wanted);
        made
    }

    /// Makes the image while the container's processes stand still, if they are to.
    async fn layered(&self, images: Images, layering: Layering, pause: bool) -> Result<Image, Error> {
        let mut paused = false;
        if pause {
            match self.pause().await {
                Ok(()) => paused = true,
                // One that has just ended needs no pause, and one that somebody else has paused stays so.
                Err(error) if error.kind() == crate::error::ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        let upper = self.overlay().upper;
        let made = blocking(move || Ok(images.layer_on(layering, &upper)?)).await;
        if paused {
            match self.unpause().await {
                // It was removed, ended, or somebody else was faster.
                Err(error) if error.kind() != crate::error::ErrorKind::Internal => {}
                other => other?,
            }
        }
        made
    }
}

fn configuration(record: &Arc<Record>, base: Option<&Image>) -> ImageConfig {
    let mut config = base.map(|image| image.config().clone()).unwrap_or_default();
    if base.is_none() {
        let mut parts = record.platform.split('/').map(str::to_owned);
        (config.os, config.architecture) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        config.variant = parts.next();
    }
    config.config = execution(&record.config);
    config
}

/// As Docker writes it into images.
fn container_config(record: &Record) -> Option<serde_json::Value> {
    let mut config = serde_json::to_value(execution(&record.config)).ok()?;
    let more = [("Hostname", &record.config.hostname), ("Image", &record.config.image)];
    config.as_object_mut()?.extend(more.map(|(name, value)| (name.to_owned(), value.clone().into())));
    Some(config)
}

fn execution(config: &Config) -> Execution {
    Execution {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: Some(config.command.clone()).filter(|command| !command.is_empty()),
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.healthcheck.clone(),
        shell: config.shell.clone(),
        on_build: config.on_build.clone(),
        ..Execution::default()
    }
}
