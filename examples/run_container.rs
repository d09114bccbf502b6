//! Runs one command in a container and ends as it does. There is no daemon: this program is the engine.
//!
//! `run_container ROOT ARCHIVE COMMAND [ARGUMENT…]`; needs root, and an archive as `docker save` writes it.

use std::io::Write;

use engine::logs::Output;
use engine::{AttachOptions, ContainerSpec, Engine, Lifetime, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(archive)) = (arguments.next(), arguments.next()) else {
        return Err("usage: run_container ROOT ARCHIVE COMMAND [ARGUMENT…]".into());
    };
    let engine = Engine::open(Settings::at(root)).await?;
    let loaded = engine.images().load(tokio::fs::File::open(archive).await?).await?;
    let image = &loaded.first().ok_or("the archive holds no image")?.image;

    let spec = ContainerSpec::new(image.id()).command(arguments).lifetime(Lifetime::Engine).auto_remove(true);
    let container = engine.containers().create(spec).await?;
    let mut output = container.attach(AttachOptions::output()).await?;
    container.start().await?;
    while let Some((stream, bytes)) = output.next_output().await? {
        match stream {
            Output::Stdout => std::io::stdout().write_all(&bytes)?,
            Output::Stderr => std::io::stderr().write_all(&bytes)?,
        }
    }
    let exit = container.wait().await?;
    engine.shutdown().await;
    std::process::exit(exit.code)
}
