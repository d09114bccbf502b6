//! `enginectl events`.

use std::io::IsTerminal;

use engine_api::event::EventMessage;
use http::Method;
use jiff::Timestamp;

use crate::client::{Payload, Query, lines};
use crate::commands::filters;
use crate::error::Error;
use crate::output::template::Template;
use crate::output::value::Value;
use crate::output::{format, time};
use crate::session::Session;

/// Show what happens, as it happens
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those, as type=container or event=die
    #[arg(short = 'f', long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Print by a template, or json
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Also what happened since then: a date, seconds since 1970, or 42m for 42 minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

pub(crate) async fn run(args: Args, session: &mut Session) -> Result<u8, Error> {
    let now = Timestamp::now();
    let moment = |flag: &str, text: &Option<String>| match text {
        Some(text) => time::timestamp(text, now)
            .map(Some)
            .map_err(|error| Error::Invalid(format!("invalid value for {flag:?}: {error}"))),
        None => Ok(None),
    };
    let query = Query::new()
        .optional("since", moment("since", &args.since)?.as_deref())
        .optional("until", moment("until", &args.until)?.as_deref());
    let query = filters::with(query, &filters::parse(&args.filter)?);
    let shape = match args.format.as_deref().map(str::trim) {
        None | Some("") if session.io.stdout.is_terminal() => Shape::People(session.io.variable("NO_COLOR").is_none()),
        None | Some("") => Shape::Line,
        Some("json") => Shape::Json,
        Some(template) => Shape::Template(format::parse_object(template)?),
    };
    let response = session.client()?.request(Method::GET, "/events", &query, Payload::Empty).await?;
    lines::read(response.into_body(), "what the daemon tells of events", |some| {
        let mut text = String::new();
        for line in some {
            text.push_str(&shape.show(line)?);
            text.push('\n');
        }
        session.print(text)
    })
    .await?;
    Ok(0)
}

enum Shape {
    Line,
    /// For a terminal, in colours or not.
    People(bool),
    Json,
    Template(Template),
}

impl Shape {
    fn show(&self, text: &[u8]) -> Result<String, Error> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::Protocol(format!("an event of the daemon is not understood: {error}"))
        };
        match self {
            Self::Json => Ok(String::from_utf8_lossy(text.trim_ascii()).into_owned()),
            Self::Line => Ok(line(&engine_api::json::from_slice(text).map_err(|error| broken(&error))?)),
            Self::People(colours) => {
                let event = engine_api::json::from_slice(text).map_err(|error| broken(&error))?;
                Ok(for_people(&event, *colours))
            }
            Self::Template(template) => {
                let value = Value::parse(text).map_err(|error| broken(&error))?;
                template
                    .render(&value, None)
                    .map_err(|error| Error::Template(format!("failed to execute template: {error}")))
            }
        }
    }
}

fn line(event: &EventMessage) -> String {
    let nanos = if event.time_nano != 0 { i128::from(event.time_nano) } else { i128::from(event.time) * 1_000_000_000 };
    let mut text = format!("{} {} {} {}", time::rfc3339_nanos(nanos), event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let attributes: Vec<String> =
            event.actor.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text.push_str(&format!(" ({})", attributes.join(", ")));
    }
    text
}

/// The time of day, what it is about, what happened, its name, and what else matters.
fn for_people(event: &EventMessage, colours: bool) -> String {
    const SAID: [&str; 4] = ["name", "image", "execDuration", "execID"];
    let attributes = &event.actor.attributes;
    let time = time::local(event.time);
    let time = time.split(' ').nth(1).unwrap_or_default();
    let name = match attributes.get("name") {
        Some(name) if event.kind != "network" || event.action == "create" => name.clone(),
        _ if event.actor.id.len() == 64 => event.actor.id.chars().take(12).collect(),
        _ => event.actor.id.clone(),
    };
    let mut more: Vec<String> = Vec::new();
    match attributes.get("exitCode") {
        Some(code) => more.push(format!("exit code {code}")),
        None if event.kind == "container" && event.action == "create" => {
            more.extend(attributes.get("image").map(|image| format!("image {image}")));
        }
        None => {}
    }
    let of_labels = |name: &str| name.contains('.');
    let short = |value: &str| if value.len() == 64 { value[..12].to_owned() } else { value.to_owned() };
    let others =
        attributes.iter().filter(|(name, _)| !SAID.contains(&name.as_str()) && *name != "exitCode" && !of_labels(name));
    if event.kind != "container" || matches!(event.action.as_str(), "kill" | "rename" | "resize") {
        more.extend(others.map(|(name, value)| format!("{name} {}", short(value))));
    }
    let bad = event.action == "oom"
        || event.action == "health_status: unhealthy"
        || (event.action == "die" && attributes.get("exitCode").is_some_and(|code| code != "0"));
    let good = matches!(event.action.as_str(), "start" | "health_status: healthy");
    let (before, after) = match (colours, bad, good) {
        (true, true, _) => ("\x1b[31m", "\x1b[0m"),
        (true, _, true) => ("\x1b[32m", "\x1b[0m"),
        _ => ("", ""),
    };
    let plain = crate::output::table::printable;
    let (kind, action, name) = (plain(&event.kind), plain(&event.action), plain(&name));
    let line = format!("{time}  {kind:<9}  {before}{action:<12}{after}  {name}");
    let more = plain(&more.join(", "));
    if more.is_empty() { line } else { format!("{line}  ({more})") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EVENT: &[u8] = br#"{"Type":"container","Action":"start","Actor":{"ID":"4c01","Attributes":{"name":"web","image":"busybox"}},"time":1,"timeNano":1000000002}"#;

    #[test]
    fn a_line_names_type_action_and_attributes() {
        let text = Shape::Line.show(EVENT).unwrap();
        assert!(
            text.contains(".000000002") && text.ends_with(" container start 4c01 (image=busybox, name=web)"),
            "{text}"
        );
    }

    #[test]
    fn people_see_what_matters() {
        let event = |text: &str| for_people(&engine_api::json::from_slice(text.as_bytes()).unwrap(), false);
        let die = event(
            r#"{"Type":"container","Action":"die","Actor":{"ID":"4c01","Attributes":{"name":"web","image":"busybox","exitCode":"3","execDuration":"1"}},"time":1}"#,
        );
        assert!(die.ends_with("  container  die           web  (exit code 3)"), "{die}");
        let pull = event(
            r#"{"Type":"image","Action":"pull","Actor":{"ID":"busybox:latest","Attributes":{"name":"busybox"}},"time":1}"#,
        );
        assert!(pull.ends_with("  image      pull          busybox"), "{pull}");
    }

    #[test]
    fn events_as_json_and_by_template() {
        assert_eq!(Shape::Json.show(EVENT).unwrap().as_bytes(), EVENT);
        let template = Shape::Template(format::parse("{{.Type}} {{.Actor.Attributes.name}} {{.ID}}").unwrap());
        assert!(template.show(EVENT).is_err(), "there is no id at the top");
        let template = Shape::Template(format::parse("{{.Type}} {{.Actor.Attributes.name}} {{.Actor.ID}}").unwrap());
        assert_eq!(template.show(EVENT).unwrap(), "container web 4c01");
        assert!(Shape::Line.show(b"x").is_err());
    }
}
