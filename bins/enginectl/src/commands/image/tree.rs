//! What images are made of, drawn: each with its layers, who shares them, and the containers that have it.

use engine_api::image::{ImageContainer, StoredImage, StoredLayer};

use crate::output::table::{cut, printable};
use crate::output::{size, time};

/// Draws the images as trees, and says what all of them take.
pub(super) fn draw(images: &[&StoredImage], now: i64, width: Option<usize>) -> String {
    let mut lines = Vec::new();
    for image in images {
        lines.push(title(image, now));
        let mut branches = layers(&image.layers);
        if !image.containers.is_empty() {
            branches.push(containers(&image.containers));
        }
        let last = branches.len().saturating_sub(1);
        for (place, branch) in branches.into_iter().enumerate() {
            lines.push(format!("{} {branch}", if place == last { "└─" } else { "├─" }));
        }
    }
    if images.len() > 1 {
        lines.push(total(images));
    }
    let fit = |line: String| {
        let line = printable(line.trim_end());
        width.map_or(line.clone(), |width| cut(&line, width)) + "\n"
    };
    lines.into_iter().map(fit).collect()
}

/// `web:1, web:latest (9f3c2b7d1e0a, linux/amd64) 183MB, 121MB shared, used 3 hours ago`.
fn title(image: &StoredImage, now: i64) -> String {
    let names = match (image.repo_tags.as_slice(), image.repo_digests.first()) {
        ([], Some(digest)) => digest.split('@').next().unwrap_or_default().to_owned(),
        ([], None) => "<none>".to_owned(),
        (tags, _) => tags.join(", "),
    };
    let variant =
        if image.platform.variant.is_empty() { String::new() } else { format!("/{}", image.platform.variant) };
    let platform = format!("{}/{}{variant}", image.platform.os, image.platform.architecture);
    let mut words = vec![size::short(image.size)];
    if image.shared_size > 0 {
        words.push(format!("{} shared", size::short(image.shared_size)));
    }
    words.push(format!("used {}", time::ago(image.last_used, now)));
    format!("{names} ({}, {platform}) {}", short(&image.id), words.join(", "))
}

/// A line a layer, in columns: its digest, its bytes, who else has it and what made it.
fn layers(layers: &[StoredLayer]) -> Vec<String> {
    let sizes: Vec<String> = layers.iter().map(|layer| size::short(layer.size)).collect();
    let shared: Vec<String> = layers.iter().map(shared).collect();
    let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
    let (bytes, with) = (widest(&sizes), widest(&shared));
    let line = |((layer, size), shared): ((&StoredLayer, &String), &String)| {
        let mut line = format!("{}  {size:>bytes$}", short(&layer.digest));
        if with > 0 {
            line.push_str(&format!("  {shared:with$}"));
        }
        if !layer.created_by.is_empty() {
            line.push_str(&format!("  {}", words(&layer.created_by)));
        }
        line
    };
    layers.iter().zip(&sizes).zip(&shared).map(line).collect()
}

fn shared(layer: &StoredLayer) -> String {
    match layer.images - 1 {
        ..=0 => String::new(),
        1 => "and in 1 other".to_owned(),
        others => format!("and in {others} others"),
    }
}

/// What made a layer, without what builders put before it, on one line.
fn words(made: &str) -> String {
    let made = made.strip_prefix("/bin/sh -c ").map_or(made, |rest| rest.strip_prefix("#(nop) ").unwrap_or(rest));
    let made = made.strip_suffix(" # buildkit").unwrap_or(made);
    made.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn containers(containers: &[ImageContainer]) -> String {
    let mut named: Vec<String> = containers
        .iter()
        .map(|container| match (container.name.as_str(), container.state.as_str()) {
            ("", _) => short(&container.id),
            (name, "running") => name.to_owned(),
            (name, state) => format!("{name} ({state})"),
        })
        .collect();
    named.sort();
    format!("in {}: {}", if named.len() == 1 { "container" } else { "containers" }, named.join(", "))
}

/// Each layer counts once, however many have it.
fn total(images: &[&StoredImage]) -> String {
    let mut seen = std::collections::BTreeSet::new();
    let mut together = 0;
    for layer in images.iter().flat_map(|image| &image.layers).filter(|layer| seen.insert(layer.digest.as_str())) {
        together += layer.size + layer.content;
    }
    let apart: i64 = images.iter().flat_map(|image| &image.layers).map(|layer| layer.size + layer.content).sum();
    let mut text = format!("{} images of {} layers take {}", images.len(), seen.len(), size::short(together));
    if apart > together {
        text.push_str(&format!(", and would take {} without sharing", size::short(apart)));
    }
    text
}

fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_api::image::Platform;

    fn layer(digest: &str, size: i64, images: i64, created_by: &str) -> StoredLayer {
        StoredLayer {
            digest: format!("sha256:{}", digest.repeat(16)),
            size,
            content: size / 2,
            images,
            created_by: created_by.to_owned(),
        }
    }

    fn image(tags: &[&str], layers: Vec<StoredLayer>) -> StoredImage {
        StoredImage {
            id: format!("sha256:{}", "9f3c".repeat(16)),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), ..Platform::default() },
            last_used: 1000,
            size: layers.iter().map(|layer| layer.size + layer.content).sum(),
            shared_size: layers.iter().filter(|layer| layer.images > 1).map(|layer| layer.size + layer.content).sum(),
            layers,
            ..StoredImage::default()
        }
    }

    #[test]
    fn an_image_stands_above_its_layers_and_its_containers() {
        let base = || layer("3d24", 80_000_000, 2, "/bin/sh -c #(nop) ADD file:1 in / ");
        let mut web = image(
            &["web:1", "web:latest"],
            vec![base(), layer("7be9", 4_100_000, 1, "RUN apt-get \\\n  update # buildkit")],
        );
        let container = |name: &str, state: &str| ImageContainer {
            id: "c".repeat(64),
            name: name.to_owned(),
            state: state.to_owned(),
        };
        web.containers = vec![container("worker", "exited"), container("front", "running")];
        let bare = image(&[], vec![base()]);
        let now = 1000 + 3 * 3600;
        assert_eq!(
            draw(&[&web, &bare], now, None),
            "web:1, web:latest (9f3c9f3c9f3c, linux/amd64) 126MB, 120MB shared, used 3 hours ago\n\
             ├─ 3d243d243d24   80MB  and in 1 other  ADD file:1 in /\n\
             ├─ 7be97be97be9  4.1MB                  RUN apt-get \\ update\n\
             └─ in containers: front, worker (exited)\n\
             <none> (9f3c9f3c9f3c, linux/amd64) 120MB, 120MB shared, used 3 hours ago\n\
             └─ 3d243d243d24  80MB  and in 1 other  ADD file:1 in /\n\
             2 images of 2 layers take 126MB, and would take 246MB without sharing\n"
        );
        let narrow = draw(&[&web], now, Some(30));
        assert!(narrow.lines().all(|line| line.chars().count() <= 30), "{narrow}");
        assert_eq!(narrow.lines().count(), 4);
        // What an image says does not reach the terminal as it is.
        let sly = image(&["x:1"], vec![layer("3d24", 1, 1, "\x1b[2J")]);
        assert!(!draw(&[&sly], now, None).contains('\x1b'));
        assert_eq!(draw(&[], now, None), "");
    }
}
