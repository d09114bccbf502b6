//! Events, and which of them a client wants.

use engine::events::{Event, EventType};
use engine::oci::Reference;
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

/// The filters that ask for a thing by its id or name.
const NAMED: [&str; 9] = ["config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume"];

/// The actions that are told with more behind a colon (`exec_create: sh -c ...`).
const LONGER: [&str; 3] = ["exec_create", "exec_start", "health_status"];

/// Whether a client that gave these filters wants to hear of it.
pub(crate) fn wanted(event: &Event, filters: &Filters) -> bool {
    is_of_action(event, filters)
        && filters.allows("type", event.kind.as_str())
        && filters.allows("scope", "local")
        && filters.all_labels("label", &event.attributes)
        && NAMED.iter().all(|named| is_named(event, filters, named))
        && is_of_image(event, filters)
}

/// Actions are asked for whole, and where one of the longer ones is asked for, all of them by their beginnings.
fn is_of_action(event: &Event, filters: &Filters) -> bool {
    let by_beginning = || filters.get("event").any(|wanted| LONGER.contains(&wanted));
    filters.allows("event", &event.action)
        || (by_beginning() && filters.get("event").any(|wanted| event.action.starts_with(wanted)))
}

/// Whether the event's own id or name begins like a value of the filter. As with Docker its type is not looked at: the filter
/// `container` lets a network through whose name begins like that, and `type` is there to part them.
fn is_named(event: &Event, filters: &Filters, filter: &str) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    filters.allows(filter, name)
        || filters.get(filter).any(|wanted| event.id.starts_with(wanted) || name.starts_with(wanted))
}

/// Of the image itself or of what is made of it, by the whole name; one without a tag means every tag.
fn is_of_image(event: &Event, filters: &Filters) -> bool {
    let attribute = if event.kind == EventType::Image { "name" } else { "image" };
    let name = event.attributes.get(attribute).map_or("", String::as_str);
    let is = |name: &str| filters.allows("image", name) || filters.allows("image", &without_tag(name));
    is(&event.id) || is(name)
}

/// A name as people write it, without tag and digest; what is no name stays as it is.
fn without_tag(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |reference: Reference| reference.familiar_name())
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

    fn of(event: &Event, filters: &str) -> bool {
        wanted(event, &Filters::parse(filters).unwrap())
    }

    #[test]
    fn filters_pick_events() {
        for (filters, expected) in [
            ("{}", true),
            (r#"{"event":[],"type":{},"container":[],"image":{},"label":[],"scope":[]}"#, true),
            (r#"{"type":["container"],"label":["tier=db"]}"#, true),
            (r#"{"type":["container","image"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"type":["contain"]}"#, false),
            (r#"{"label":["tier"]}"#, true),
            (r#"{"label":["tier=web"]}"#, false),
            (r#"{"label":["tier","other"]}"#, false),
            (r#"{"scope":["swarm","local"]}"#, true),
            (r#"{"scope":["swarm"]}"#, false),
            (r#"{"node":["here"]}"#, false),
            (r#"{"volume":["v"]}"#, false),
            // All filters must let it through.
            (r#"{"container":["web"],"event":["start"]}"#, false),
        ] {
            assert_eq!(of(&event(), filters), expected, "{filters}");
        }
        // Not everything has attributes.
        assert!(!of(&Event::new(EventType::Daemon, "reload", "d"), r#"{"label":["tier"]}"#));
    }

    #[test]
    fn actions_are_whole_except_where_there_is_more_behind_them() {
        for (filters, expected) in [
            (r#"{"event":["exec_create"]}"#, true),
            (r#"{"event":["exec_create: sh -c id"]}"#, true),
            (r#"{"event":["exec_create: sh"]}"#, false),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"event":["start"]}"#, false),
            (r#"{"event":["start","exec_create"]}"#, true),
            (r#"{"event":["exec_start"]}"#, false),
            (r#"{"event":["exec_start","exec_create: sh"]}"#, true),
        ] {
            assert_eq!(of(&event(), filters), expected, "{filters}");
        }
        let healthy = Event::new(EventType::Container, "health_status: healthy", "0123");
        for (filters, expected) in [
            (r#"{"event":["health_status"]}"#, true),
            (r#"{"event":["health_status: healthy"]}"#, true),
            (r#"{"event":["health_status: unhealthy"]}"#, false),
            (r#"{"event":["health_status: "]}"#, false),
        ] {
            assert_eq!(of(&healthy, filters), expected, "{filters}");
        }
    }

    #[test]
    fn names_and_ids_are_asked_for_by_their_beginnings() {
        for (filters, expected) in [
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["we"]}"#, true),
            (r#"{"container":["web2"]}"#, false),
            (r#"{"container":["/web"]}"#, false),
            (r#"{"container":["0123"]}"#, true),
            (r#"{"container":["123"]}"#, false),
            (r#"{"container":["other"]}"#, false),
            (r#"{"container":["other","web"]}"#, true),
        ] {
            assert_eq!(of(&event(), filters), expected, "{filters}");
        }
        let network = Event::new(EventType::Network, "connect", "fedcba")
            .attribute("name", "backend")
            .attribute("container", "0123456789abcdef");
        for (filters, expected) in [
            (r#"{"network":["back"]}"#, true),
            (r#"{"network":["fed"]}"#, true),
            (r#"{"network":["end"]}"#, false),
            (r#"{"container":["0123"]}"#, false),
            // Its type is another filter.
            (r#"{"container":["back"]}"#, true),
            (r#"{"container":["back"],"type":["container"]}"#, false),
        ] {
            assert_eq!(of(&network, filters), expected, "{filters}");
        }
        // A volume's id is its name, and the daemon has both.
        assert!(of(&Event::new(EventType::Volume, "mount", "data-1"), r#"{"volume":["data"]}"#));
        let daemon = Event::new(EventType::Daemon, "reload", "AB:CD").attribute("name", "host");
        assert!(of(&daemon, r#"{"daemon":["AB:"]}"#) && of(&daemon, r#"{"daemon":["ho"]}"#));
    }

    #[test]
    fn images_are_asked_for_by_whole_names_with_or_without_tags() {
        for (filters, expected) in [
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"image":["busybox:latest"]}"#, true),
            (r#"{"image":["busybox:1"]}"#, false),
            (r#"{"image":["busy"]}"#, false),
            // What is made of it is told by its own id, too.
            (r#"{"image":["0123456789abcdef"]}"#, true),
            (r#"{"image":["0123"]}"#, false),
        ] {
            assert_eq!(of(&event(), filters), expected, "{filters}");
        }
        let id = format!("sha256:{}", "1".repeat(64));
        let image = Event::new(EventType::Image, "tag", &id).attribute("name", "docker.io/library/app:2");
        for (filters, expected) in [
            (format!(r#"{{"image":["{id}"]}}"#), true),
            (format!(r#"{{"image":["{}"]}}"#, &id[..20]), false),
            (r#"{"image":["app"]}"#.to_owned(), true),
            (r#"{"image":["docker.io/library/app:2"]}"#.to_owned(), true),
            (r#"{"image":["app:2"]}"#.to_owned(), false),
        ] {
            assert_eq!(of(&image, &filters), expected, "{filters}");
        }
        let pulled = Event::new(EventType::Image, "pull", "localhost:5000/team/app:2").attribute("name", "app");
        assert!(of(&pulled, r#"{"image":["localhost:5000/team/app"]}"#) && !of(&pulled, r#"{"image":["localhost"]}"#));
        // What has nothing to do with images is of none.
        assert!(!of(&Event::new(EventType::Volume, "create", "v"), r#"{"image":["busybox"]}"#));
    }
}
