//! Starts two containers, prints their process ids and waits until its input ends: one container dies with this program
//! however that dies, the other goes on and belongs to whoever opens the same root next.
//!
//! `two_lifetimes ROOT ARCHIVE`; needs root, and an archive as `docker save` writes it.

use engine::{ContainerSpec, Engine, Lifetime, Settings};
use tokio::io::AsyncReadExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(archive)) = (arguments.next(), arguments.next()) else {
        return Err("usage: two_lifetimes ROOT ARCHIVE".into());
    };
    let engine = Engine::open(Settings::at(root)).await?;
    let loaded = engine.images().load(tokio::fs::File::open(archive).await?).await?;
    let image = &loaded.first().ok_or("the archive holds no image")?.image;
    for (name, lifetime) in [("mortal", Lifetime::Engine), ("lasting", Lifetime::Independent)] {
        let spec = ContainerSpec::new(image.id()).name(name).command(["sleep", "1000"]).lifetime(lifetime);
        let container = engine.containers().create(spec).await?;
        container.start().await?;
        println!("{name} {}", container.record().state.pid);
    }
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    engine.shutdown().await;
    Ok(())
}
