//! `enginectl images`.

use std::collections::BTreeMap;

use engine_api::image::{ImageSummary, StoredImage};

use super::tree;
use crate::client::Query;
use crate::commands::filters;
use crate::error::Error;
use crate::output::format::{Columns, Raw, Row, is_raw, list, raw};
use crate::output::{size, time};
use crate::session::Session;

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also intermediate ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Also the digests
    #[arg(long)]
    digests: bool,
    /// Only those, as dangling=true or reference=PATTERN
    #[arg(short = 'f', long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Print by a template, table TEMPLATE, table, json or raw
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Only the ids
    #[arg(short = 'q', long)]
    quiet: bool,
    /// Draw each image with its layers and its containers
    #[arg(long)]
    tree: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

const COLUMNS: Columns = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const ID: (&str, &str) = ("image_id", "ID");
const AGE: (&str, &str) = ("created_at", "CreatedAt");
const ROOM: (&str, &str) = ("virtual_size", "Size");
const RAW: Raw = &[("repository", "Repository"), ("tag", "Tag"), ID, AGE, ROOM];
const RAW_DIGESTS: Raw = &[("repository", "Repository"), ("tag", "Tag"), ("digest", "Digest"), ID, AGE, ROOM];

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut filters = filters::parse(&args.filter)?;
    if let Some(name) = &args.repository {
        filters.add("reference", name);
    }
    let query = filters::with(Query::new().flag("all", args.all), &filters);
    if args.tree && (args.quiet || args.digests || args.no_trunc || args.format.is_some()) {
        return Err(Error::Invalid("--tree cannot be combined with other ways to show the list".to_owned()));
    }
    let images: Vec<ImageSummary> = session.client()?.get_as("/images/json", &query).await?;
    if args.tree {
        let stored: Vec<StoredImage> = session.client()?.get_as("/system/images", &Query::new()).await?;
        let wanted: Vec<&StoredImage> =
            images.iter().filter_map(|image| stored.iter().find(|stored| stored.id == image.id)).collect();
        session.print(tree::draw(&wanted, time::now_seconds(), session.width()))?;
        return Ok(0);
    }
    let wants_digests = args.digests || args.format.as_ref().is_some_and(|format| format.contains(".Digest"));
    let named: Vec<(Name, &ImageSummary)> = images
        .iter()
        .flat_map(|image| names(image, wants_digests).into_iter().map(move |name| (name, image)))
        .collect();
    if args.quiet && args.format.is_none() {
        let ids = named.iter().map(|(_, image)| short(&image.id, args.no_trunc) + "\n").collect::<String>();
        session.print(ids)?;
        return Ok(0);
    }
    let now = time::now_seconds();
    let rows: Vec<Row> = named.iter().map(|(name, image)| row(name, image, args.no_trunc, now)).collect();
    if is_raw(args.format.as_deref()) {
        let fields = match (args.quiet, args.digests) {
            (true, _) => &[ID],
            (false, true) => RAW_DIGESTS,
            (false, false) => RAW,
        };
        return session.print(raw(fields, &rows, args.quiet)).map(|()| 0);
    }
    let shown: &[&str] = if args.digests {
        &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
    } else {
        &["Repository", "Tag", "ID", "CreatedSince", "Size"]
    };
    let width = if args.no_trunc { None } else { session.width() };
    session.print(list(args.format.as_deref(), COLUMNS, shown, rows, width)?)?;
    Ok(0)
}

/// One line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    repository: String,
    tag: String,
    digest: String,
}

const NONE: &str = "<none>";

/// The lines of an image: one a tag, else one a digest that has no tag, else one without any name. With digests, each tag has a
/// line for each digest of its repository.
fn names(image: &ImageSummary, wants_digests: bool) -> Vec<Name> {
    let name = |repository: &str, tag: &str, digest: &str| Name {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
    };
    let mut digests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for text in &image.repo_digests {
        if let Some((repository, digest)) = text.split_once('@') {
            digests.entry(repository).or_default().push(digest);
        }
    }
    let mut list = Vec::new();
    for text in image.repo_tags.iter().filter(|text| *text != "<none>:<none>") {
        let (repository, tag) = text.rsplit_once(':').unwrap_or((text, NONE));
        match digests.get(repository) {
            Some(own) if wants_digests => list.extend(own.iter().map(|digest| name(repository, tag, digest))),
            _ => list.push(name(repository, tag, NONE)),
        }
    }
    for (repository, own) in &digests {
        let tagged = list.iter().any(|known: &Name| known.repository == *repository);
        if !tagged && *repository != NONE {
            list.extend(own.iter().map(|digest| name(repository, NONE, digest)));
        }
    }
    if list.is_empty() {
        list.push(name(NONE, NONE, NONE));
    }
    list
}

fn short(id: &str, whole: bool) -> String {
    if whole { id.to_owned() } else { id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect() }
}

/// A row for each name of an image, with its whole id or a short one.
pub(crate) fn rows(image: &ImageSummary, whole: bool, now: i64) -> Vec<Row> {
    names(image, false).iter().map(|name| row(name, image, whole, now)).collect()
}

fn row(name: &Name, image: &ImageSummary, whole: bool, now: i64) -> Row {
    let counted = |number: i64| if number < 0 { "N/A".to_owned() } else { number.to_string() };
    let sized = |number: i64| if number < 0 { "N/A".to_owned() } else { size::decimal(number) };
    let unique = if image.shared_size < 0 { -1 } else { image.size - image.shared_size };
    Row::new([
        ("Repository", name.repository.as_str().into()),
        ("Tag", name.tag.as_str().into()),
        ("Digest", name.digest.as_str().into()),
        ("ID", short(&image.id, whole).into()),
        ("CreatedSince", time::ago(image.created, now).into()),
        ("CreatedAt", time::local(image.created).into()),
        ("Size", size::short(image.size).into()),
        ("VirtualSize", size::decimal(image.size).into()),
        ("Containers", counted(image.containers).into()),
        ("SharedSize", sized(image.shared_size).into()),
        ("UniqueSize", sized(unique).into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> ImageSummary {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ImageSummary {
            id: "sha256:4c01db0b339cafe".to_owned(),
            repo_tags: owned(tags),
            repo_digests: owned(digests),
            created: 1000,
            size: 4_261_502,
            containers: -1,
            shared_size: -1,
            ..ImageSummary::default()
        }
    }

    fn shown(image: &ImageSummary, digests: bool) -> Vec<String> {
        names(image, digests).iter().map(|name| format!("{} {} {}", name.repository, name.tag, name.digest)).collect()
    }

    #[test]
    fn an_image_has_a_line_for_each_name() {
        assert_eq!(
            shown(&image(&["a:1", "localhost:5000/b:2"], &["a@d"]), false),
            ["a 1 <none>", "localhost:5000/b 2 <none>"]
        );
        assert_eq!(shown(&image(&["a:1"], &["a@d"]), true), ["a 1 d"]);
        assert_eq!(shown(&image(&[], &["a@d"]), false), ["a <none> d"]);
        assert_eq!(shown(&image(&[], &[]), false), ["<none> <none> <none>"]);
        assert_eq!(shown(&image(&["<none>:<none>"], &["<none>@<none>"]), false), ["<none> <none> <none>"]);
    }

    #[test]
    fn a_line_reads_as_docker_s() {
        let image = image(&["a:1"], &[]);
        let rows = vec![row(&names(&image, false).remove(0), &image, false, 1000 + 86400 * 21)];
        let text = list(
            Some("{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedSince}} {{.Size}} {{.Containers}}"),
            COLUMNS,
            &[],
            rows,
            None,
        );
        assert_eq!(text.unwrap_or_default(), "a:1 4c01db0b339c 3 weeks ago 4.26MB N/A\n");
    }
}
