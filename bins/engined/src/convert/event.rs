//! Events, and which of them a client wants.

use engine::events::{Event, EventType};
use engine_api::event as wire;
use engine_api::filter::Filters;

use super::time::seconds;

/// The filters that events have.
pub(crate) const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// An event as it is told.
pub(crate) fn message(event: &Event) -> wire::EventMessage {
    let named = matches!(event.kind, EventType::Container | EventType::Image);
    let from = if event.kind == EventType::Container {
        event.attributes.get("image").cloned().unwrap_or_default()
    } else {
        String::new()
    };
    wire::EventMessage {
        status: if named { event.action.clone() } else { String::new() },
        id: if named { event.id.clone() } else { String::new() },
        from,
        kind: event.kind.as_str().to_owned(),
        action: event.action.clone(),
        actor: wire::Actor { id: event.id.clone(), attributes: event.attributes.clone() },
        scope: "local".to_owned(),
        time: seconds(event.at_nanos),
        time_nano: event.at_nanos,
    }
}

/// Whether a client that gave these filters wants to hear of it.
pub(crate) fn wanted(event: &Event, filters: &Filters) -> bool {
    let kind = event.kind.as_str();
    // `exec_create: sh -c ...` is an `exec_create`, and `health_status: healthy` a `health_status`.
    let plain = event.action.split(':').next().unwrap_or_default();
    filters.any("event", |wanted| wanted == event.action || wanted == plain)
        && filters.any("type", |wanted| wanted == kind)
        && filters.any("scope", |wanted| wanted == "local")
        && filters.all_labels("label", &event.attributes)
        && ["config", "daemon", "network", "node", "plugin", "secret", "service", "volume"]
            .iter()
            .all(|of| filters.any(of, |wanted| kind == *of && is_actor(event, wanted)))
        && filters.any("container", |wanted| event.kind == EventType::Container && is_actor(event, wanted))
        && filters.any("image", |wanted| is_of_image(event, wanted))
}

fn is_actor(event: &Event, wanted: &str) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    event.id == wanted
        || (!wanted.is_empty() && event.id.starts_with(wanted))
        || name == wanted.strip_prefix('/').unwrap_or(wanted)
}

/// Of the image itself, or of a container that is made of it; a name without a tag means every tag.
fn is_of_image(event: &Event, wanted: &str) -> bool {
    let without_tag = |name: &str| match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name.to_owned(),
        _ => name.to_owned(),
    };
    let matches = |name: &str| name == wanted || without_tag(name) == wanted;
    let attribute = if event.kind == EventType::Image { "name" } else { "image" };
    (event.kind == EventType::Image && matches(&event.id))
        || event.attributes.get(attribute).is_some_and(|name| matches(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event() -> Event {
        Event::new(EventType::Container, "exec_create: sh -c id", "0123456789abcdef")
            .attribute("image", "busybox:latest")
            .attribute("name", "web")
            .attribute("tier", "db")
    }

    #[test]
    fn an_event_is_told_as_docker_tells_it() {
        let message = message(&Event { at_nanos: 1_500_000_000, ..event() });
        assert_eq!(
            (message.status.as_str(), message.from.as_str(), message.time),
            ("exec_create: sh -c id", "busybox:latest", 1)
        );
        let volume = super::message(&Event::new(EventType::Volume, "create", "v"));
        assert_eq!((volume.status.as_str(), volume.id.as_str(), volume.actor.id.as_str()), ("", "", "v"));
    }

    #[test]
    fn filters_pick_events() {
        for (filters, expected) in [
            ("{}", true),
            (r#"{"event":["exec_create"]}"#, true),
            (r#"{"event":["start"]}"#, false),
            (r#"{"event":["start","exec_create"]}"#, true),
            (r#"{"type":["container"],"label":["tier=db"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"label":["tier=web"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["/web"]}"#, true),
            (r#"{"container":["0123"]}"#, true),
            (r#"{"container":["other"]}"#, false),
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"image":["busybox:latest"]}"#, true),
            (r#"{"image":["busy"]}"#, false),
            (r#"{"volume":["v"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
        ] {
            assert_eq!(wanted(&event(), &Filters::parse(filters).unwrap()), expected, "{filters}");
        }
    }
}
