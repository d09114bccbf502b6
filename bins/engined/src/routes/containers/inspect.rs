//! `GET /containers/{id}/json`

use engine_api::container::ContainerInspect;
use http::StatusCode;

use crate::convert::container::inspect::{Paths, inspect as inspect_of};
use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

pub(crate) async fn inspect(call: Call) -> Result<Response, Error> {
    let container = call.daemon.engine.containers().get(&call.name).await?;
    let root = &call.daemon.engine.settings().root;
    let paths = Paths {
        directory: root.join("containers").join(container.id().as_str()),
        log: container.log_path(),
        layers: container.overlay().lower,
    };
    let record = container.record();
    let mut shown = inspect_of(&record, &paths, container.exec_ids().iter().map(ToString::to_string).collect());
    // Those daemons made them aliases when they connected it.
    if call.version.shows_names_as_aliases() && record.state.started_at > 0 {
        names_as_aliases(&mut shown);
    }
    if call.query.boolean("size") {
        let (written, all) = container.size().await?;
        shown.size_rw = Some(signed(written));
        shown.size_root_fs = Some(signed(all));
    }
    Ok(reply::json(StatusCode::OK, &shown))
}

/// On networks of one's own a container is known by its short id and its host name too.
fn names_as_aliases(shown: &mut ContainerInspect) {
    let names = [shown.id.chars().take(12).collect(), shown.config.hostname.clone()];
    let own = shown.network_settings.networks.iter_mut().flatten().filter(|(network, _)| {
        !matches!(network.as_str(), "bridge" | "host" | "none" | "default") && !network.starts_with("container:")
    });
    for (_, endpoint) in own {
        let aliases = endpoint.aliases.get_or_insert_default();
        for name in &names {
            if !name.is_empty() && !aliases.contains(name) {
                aliases.push(name.clone());
            }
        }
    }
}

pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use engine_api::network::EndpointSettings;

    use super::*;

    #[test]
    fn short_id_and_host_name_are_aliases_on_networks_of_ones_own() {
        let mut shown = ContainerInspect { id: "0123456789abcdef".to_owned(), ..ContainerInspect::default() };
        shown.config.hostname = "host".to_owned();
        let web = EndpointSettings { aliases: Some(vec!["web".to_owned()]), ..EndpointSettings::default() };
        let networks = [("own".to_owned(), web), ("bridge".to_owned(), EndpointSettings::default())];
        shown.network_settings.networks = Some(networks.into());
        names_as_aliases(&mut shown);
        let networks = shown.network_settings.networks.unwrap_or_default();
        assert_eq!(networks["own"].aliases.as_deref().unwrap_or_default(), ["web", "0123456789ab", "host"]);
        assert_eq!(networks["bridge"].aliases, None);
    }
}
