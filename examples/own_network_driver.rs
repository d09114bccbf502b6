//! A program that brings a network driver of its own: each container gets one end of a cable, and the other end stays on the
//! host as `cableN`, for the program to plug in where it likes.
//!
//! `own_network_driver ROOT ARCHIVE`; needs root, `ip`, and an archive as `docker save` writes it.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::Command;

use engine::container::NetworkMode;
use engine::logs::Output;
use engine::network::{DriverError, Endpoint, Network, NetworkDriver, NetworkSpec};
use engine::{AttachOptions, ContainerSpec, Engine, Lifetime, Settings};

#[derive(Debug)]
struct Cables;

/// What the host's end is called.
fn cable(endpoint: &Endpoint) -> String {
    format!("cable{}", &endpoint.id.short()[..8])
}

fn ip(arguments: &[&str]) -> Result<(), DriverError> {
    let done = Command::new("ip").args(arguments).output()?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).trim().into()) }
}

impl NetworkDriver for Cables {
    fn name(&self) -> &str {
        "cables"
    }

    fn check(&self, network: &Network) -> Result<(), DriverError> {
        if network.options.is_empty() { Ok(()) } else { Err("cables have no options".into()) }
    }

    fn connect(&self, _: &Network, endpoint: &Endpoint, namespace: BorrowedFd<'_>) -> Result<(), DriverError> {
        let interface = endpoint.interface.as_ref().ok_or("an endpoint without an interface")?;
        let (cable, mac) = (cable(endpoint), interface.mac.to_string());
        let place = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        let ours = ["link", "add", &cable, "type", "veth"];
        let theirs = ["peer", "name", &interface.name, "address", &mac, "netns", &place];
        ip(&[&ours[..], &theirs].concat())?;
        ip(&["link", "set", &cable, "up"])
    }

    fn disconnect(&self, _: &Network, _: &Endpoint) -> Result<(), DriverError> {
        // A cable goes with the container's end.
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(archive)) = (arguments.next(), arguments.next()) else {
        return Err("usage: own_network_driver ROOT ARCHIVE".into());
    };
    let engine = Engine::open(Settings::at(root)).await?;
    engine.networks().register(Cables)?;
    let network = engine.networks().create(NetworkSpec::new("lab").driver("cables").subnet("10.99.0.0/24")).await?;

    let loaded = engine.images().load(tokio::fs::File::open(archive).await?).await?;
    let image = &loaded.first().ok_or("the archive holds no image")?.image;
    let spec = ContainerSpec::new(image.id())
        .command(["ip", "-o", "addr", "show", "eth0"])
        .network(NetworkMode::Named(network.name.clone()))
        .lifetime(Lifetime::Engine)
        .auto_remove(true);
    let container = engine.containers().create(spec).await?;
    let mut output = container.attach(AttachOptions::output()).await?;
    container.start().await?;
    while let Some((stream, bytes)) = output.next_output().await? {
        if stream == Output::Stdout {
            print!("{}", String::from_utf8_lossy(&bytes));
        }
    }
    let exit = container.wait().await?;
    container.waiter(engine::container::WaitCondition::Removed).await.ok();
    engine.networks().remove(&network.name).await?;
    engine.shutdown().await;
    std::process::exit(exit.code)
}
