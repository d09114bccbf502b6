//! `enginectl system check`.

use engine_api::image::ImageSummary;
use engine_api::system::{CheckProblem, CheckReport, CheckRequest};

use crate::client::{Payload, Query, parse};
use crate::commands::reference::Reference;
use crate::credentials::Store;
use crate::error::Error;
use crate::session::Session;

/// Check that everything images are made of is as it was stored
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Repair what is damaged, from what is here or from where it was pulled
    #[arg(long)]
    repair: bool,
}

const PATH: &str = "/system/check";

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let mut request = CheckRequest { repair: args.repair, ..CheckRequest::default() };
    let client = session.client()?;
    if args.repair {
        let images: Vec<ImageSummary> = client.get_as("/images/json", &Query::new()).await?;
        let names = images.iter().flat_map(|image| &image.repo_digests);
        let registries = names.map(|name| Reference::parse(name).registry().to_owned()).collect();
        // Without logins anybody asks.
        match Store::open(session) {
            Ok(store) => {
                let (logins, complaints) = store.logins(registries);
                request.auth.extend(logins);
                complaints.iter().for_each(|complaint| session.complain(complaint));
            }
            Err(error) => session.complain(format!("registries are asked without logins: {error}")),
        }
    }
    let report = client.post(PATH, &Query::new(), Payload::json(&request)?).await?;
    let report: CheckReport = parse(PATH, &report)?;
    session.print(shown(&report, args.repair))?;
    Ok(u8::from(!report.sound))
}

fn shown(report: &CheckReport, repairs: bool) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        text += &line(problem);
    }
    if report.leftovers > 0 {
        let leftovers = count(report.leftovers, "leftover");
        text += &format!("{leftovers} of what was killed: removed when the engine starts, or with --repair\n");
    }
    let (blobs, layers) = (count(report.blobs, "blob"), count(report.layers, "layer"));
    let open = report.problems.iter().filter(|problem| problem.repaired.is_empty()).count();
    text += &match (report.problems.len(), open) {
        (0, _) => format!("{blobs} and {layers} are sound\n"),
        (all, 0) => format!("{blobs} and {layers}: {} repaired\n", count(all, "problem")),
        (_, open) if repairs => format!("{blobs} and {layers}: {} left\n", count(open, "problem")),
        (_, open) => format!("{blobs} and {layers}: {}; --repair repairs what can be\n", count(open, "problem")),
    };
    text
}

fn line(problem: &CheckProblem) -> String {
    let mut text = format!("{}: {}", problem.subject, problem.found);
    if !problem.images.is_empty() {
        text += &format!(" ({})", problem.images.join(", "));
    }
    if !problem.repaired.is_empty() {
        text += &format!(" - repaired: {}", problem.repaired);
    }
    if !problem.beyond.is_empty() {
        text += &format!(" - not repaired: {}", problem.beyond);
    }
    text + "\n"
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_is_wrong_and_what_to_do() {
        let mut report = CheckReport { blobs: 1, layers: 2, sound: true, ..CheckReport::default() };
        assert_eq!(shown(&report, false), "1 blob and 2 layers are sound\n");
        report.problems.push(CheckProblem {
            subject: "layer x".to_owned(),
            found: "/f: is missing".to_owned(),
            images: vec!["a:1".to_owned(), "b:1".to_owned()],
            ..CheckProblem::default()
        });
        let text = shown(&report, false);
        assert_eq!(
            text,
            "layer x: /f: is missing (a:1, b:1)\n1 blob and 2 layers: 1 problem; --repair repairs what can be\n"
        );
        report.problems[0].beyond = "nobody has it".to_owned();
        assert!(shown(&report, true).contains(" - not repaired: nobody has it\n1 blob and 2 layers: 1 problem left\n"));
        report.problems[0].beyond.clear();
        report.problems[0].repaired = "it was unpacked again".to_owned();
        assert!(
            shown(&report, true)
                .ends_with(" - repaired: it was unpacked again\n1 blob and 2 layers: 1 problem repaired\n")
        );
        report.leftovers = 1;
        assert!(shown(&report, true).contains("1 leftover of what was killed"));
    }
}
