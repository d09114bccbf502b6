//! A program that brings a volume driver of its own: volumes are shelves of a rack, a directory that it keeps where it likes.
//! One container fills a shelf from its image and writes on it, another one reads what is there.
//!
//! `own_volume_driver ROOT ARCHIVE`; needs root, and an archive as `docker save` writes it.

use std::path::PathBuf;

use engine::container::MountSpec;
use engine::logs::Output;
use engine::volume::{DriverError, Volume, VolumeDriver, VolumeSpec};
use engine::{AttachOptions, ContainerSpec, Engine, Lifetime, Settings};

#[derive(Debug)]
struct Rack(PathBuf);

impl Rack {
    fn shelf(&self, volume: &Volume) -> PathBuf {
        self.0.join(volume.name().as_str())
    }
}

impl VolumeDriver for Rack {
    fn name(&self) -> &str {
        "rack"
    }

    fn create(&self, volume: &Volume) -> Result<(), DriverError> {
        if volume.options().keys().any(|key| key != "row") {
            return Err("a shelf has a row and nothing else".into());
        }
        Ok(std::fs::create_dir_all(self.shelf(volume))?)
    }

    fn mount(&self, volume: &Volume) -> Result<PathBuf, DriverError> {
        Ok(self.shelf(volume))
    }

    fn remove(&self, volume: &Volume) -> Result<(), DriverError> {
        Ok(std::fs::remove_dir_all(self.shelf(volume))?)
    }
}

/// What a shell says that has the shelf at `/srv/data`.
async fn run(engine: &Engine, image: &str, script: &str) -> Result<String, Box<dyn std::error::Error>> {
    let spec = ContainerSpec::new(image)
        .command(["sh", "-c", script])
        .mount(MountSpec::volume("tools", "/srv/data"))
        .lifetime(Lifetime::Engine)
        .auto_remove(true);
    let container = engine.containers().create(spec).await?;
    let mut output = container.attach(AttachOptions::output()).await?;
    container.start().await?;
    let mut said = String::new();
    while let Some((stream, bytes)) = output.next_output().await? {
        if stream == Output::Stdout {
            said.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    container.waiter(engine::container::WaitCondition::Removed).await.ok();
    Ok(said)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(archive)) = (arguments.next(), arguments.next()) else {
        return Err("usage: own_volume_driver ROOT ARCHIVE".into());
    };
    let rack = PathBuf::from(&root).join("rack");
    let engine = Engine::open(Settings::at(root)).await?;
    engine.volumes().register(Rack(rack.clone()))?;
    engine.volumes().create(VolumeSpec::named("tools").driver("rack").option("row", "3")).await?;

    let loaded = engine.images().load(tokio::fs::File::open(archive).await?).await?;
    let image = loaded.first().ok_or("the archive holds no image")?.image.id().to_string();
    print!("{}", run(&engine, &image, "ls /srv/data; echo written > /srv/data/note").await?);
    print!("{}", run(&engine, &image, "cat /srv/data/note").await?);
    println!("on the rack: {}", std::fs::read_to_string(rack.join("tools/note"))?.trim());
    engine.volumes().remove("tools").await?;
    println!("left: {}", std::fs::read_dir(&rack)?.count());
    engine.shutdown().await;
    std::process::exit(0)
}
