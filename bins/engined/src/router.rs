//! The whole API as one table, and how a path finds its row.

use std::pin::Pin;
use std::sync::Arc;

use engine_api::version::ApiVersion;
use http::{HeaderMap, Method};
use hyper::body::Incoming;

use crate::Daemon;
use crate::error::Error;
use crate::extract::Query;
use crate::reply::Response;
use crate::routes::{containers, events, exec, images, networks, registries, system, transfers, unsupported, volumes};
use crate::stream::hijack::Outcome;

/// A request on its way to a handler.
pub(crate) struct Call {
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) version: ApiVersion,
    /// What stands for `{name}` in the path, decoded.
    pub(crate) name: String,
    /// What stands for a second `{name}`.
    pub(crate) second: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
}

type Running<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// How a handler is run.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Dropped when the client goes: what only looks, and what shall end with its client.
    While(fn(Call) -> Running<Response>),
    /// Runs to its end, whether or not the client waits for it: what changes something.
    Finish(fn(Call) -> Running<Response>),
    /// May take the connection for itself.
    Hijack(fn(Call) -> Running<Outcome>),
}

/// A row of the table. `{name}` in the path stands for any text, slashes included.
struct Route {
    method: Method,
    path: &'static str,
    handler: Handler,
}

macro_rules! table {
    ($($method:ident $path:literal $kind:ident $handler:path;)*) => {
        &[$(Route { method: Method::$method, path: $path, handler: Handler::$kind(|call| Box::pin($handler(call))) }),*]
    };
}

/// Rows without a name come before those that would match them with one.
static ROUTES: &[Route] = table! {
    GET "/_ping" While system::ping;
    HEAD "/_ping" While system::ping;
    GET "/version" While system::version;
    GET "/info" While system::info;
    GET "/events" While events::stream;
    POST "/auth" While registries::log_in;
    GET "/system/df" While system::disk_usage;
    GET "/system/images" While system::images;
    POST "/system/check" Finish system::check;
    POST "/system/trim" Finish system::trim;

    GET "/containers/json" While containers::list::list;
    POST "/containers/create" Finish containers::create::create;
    POST "/containers/prune" Finish containers::remove::prune;
    GET "/containers/stats" While containers::stats::of_many;
    GET "/containers/{name}/json" While containers::inspect::inspect;
    GET "/containers/{name}/top" While containers::top::top;
    GET "/containers/{name}/logs" While containers::logs::logs;
    GET "/containers/{name}/changes" While containers::archive::changes;
    GET "/containers/{name}/export" While containers::archive::export;
    GET "/containers/{name}/stats" While containers::stats::stats;
    GET "/containers/{name}/attach/ws" Hijack containers::attach_ws::attach;
    HEAD "/containers/{name}/archive" While containers::archive::stat;
    GET "/containers/{name}/archive" While containers::archive::get;
    PUT "/containers/{name}/archive" Finish containers::archive::put;
    POST "/containers/{name}/start" Finish containers::lifecycle::start;
    POST "/containers/{name}/stop" Finish containers::lifecycle::stop;
    POST "/containers/{name}/restart" Finish containers::lifecycle::restart;
    POST "/containers/{name}/kill" Finish containers::lifecycle::kill;
    POST "/containers/{name}/pause" Finish containers::lifecycle::pause;
    POST "/containers/{name}/unpause" Finish containers::lifecycle::unpause;
    POST "/containers/{name}/rename" Finish containers::lifecycle::rename;
    POST "/containers/{name}/resize" Finish containers::lifecycle::resize;
    POST "/containers/{name}/update" Finish containers::update::update;
    POST "/containers/{name}/wait" While containers::wait::wait;
    POST "/containers/{name}/attach" Hijack containers::attach::attach;
    GET "/containers/{name}/checkpoints" While containers::checkpoints::list;
    POST "/containers/{name}/checkpoints" Finish containers::checkpoints::create;
    DELETE "/containers/{name}/checkpoints/{name}" Finish containers::checkpoints::remove;
    POST "/containers/{name}/exec" Finish exec::create;
    DELETE "/containers/{name}" Finish containers::remove::remove;
    POST "/commit" Finish containers::commit::commit;

    POST "/exec/{name}/start" Hijack exec::start;
    POST "/exec/{name}/resize" Finish exec::resize;
    GET "/exec/{name}/json" While exec::inspect;

    GET "/images/json" While images::list;
    GET "/images/search" While registries::search;
    GET "/images/get" Hijack transfers::save;
    POST "/images/create" While transfers::create;
    POST "/images/load" While transfers::load;
    POST "/images/prune" Finish images::prune;
    GET "/images/{name}/json" While images::inspect;
    GET "/images/{name}/history" While images::history;
    GET "/images/{name}/get" Hijack transfers::save_one;
    POST "/images/{name}/tag" Finish images::tag;
    POST "/images/{name}/push" While transfers::push;
    DELETE "/images/{name}" Finish images::remove;
    GET "/distribution/{name}/json" While registries::distribution;
    GET "/distribution/{name}/manifest" While registries::document;
    GET "/distribution/{name}/referrers" While registries::referrers;
    POST "/build" While unsupported::not_built;
    POST "/build/prune" While unsupported::no_build_cache;
    POST "/build/cancel" While unsupported::not_built;
    POST "/session" While unsupported::not_built;
    POST "/grpc" While unsupported::not_built;

    GET "/networks" While networks::list;
    GET "/networks/" While networks::list;
    POST "/networks/create" Finish networks::create;
    POST "/networks/prune" Finish networks::prune;
    POST "/networks/{name}/connect" Finish networks::connect;
    POST "/networks/{name}/disconnect" Finish networks::disconnect;
    GET "/networks/{name}" While networks::inspect;
    DELETE "/networks/{name}" Finish networks::remove;

    GET "/volumes" While volumes::list;
    POST "/volumes/create" Finish volumes::create;
    POST "/volumes/prune" Finish volumes::prune;
    GET "/volumes/{name}/archive" While volumes::export;
    PUT "/volumes/{name}/archive" While volumes::import;
    GET "/volumes/{name}" While volumes::inspect;
    PUT "/volumes/{name}" While unsupported::no_swarm;
    DELETE "/volumes/{name}" Finish volumes::remove;

    GET "/plugins" While unsupported::no_plugins;
    GET "/plugins/privileges" While unsupported::plugins_are_not_run;
    POST "/plugins/pull" While unsupported::plugins_are_not_run;
    POST "/plugins/create" While unsupported::plugins_are_not_run;
    GET "/plugins/{name}/json" While unsupported::no_such_plugin;
    POST "/plugins/{name}/enable" While unsupported::no_such_plugin;
    POST "/plugins/{name}/disable" While unsupported::no_such_plugin;
    POST "/plugins/{name}/upgrade" While unsupported::no_such_plugin;
    POST "/plugins/{name}/push" While unsupported::no_such_plugin;
    POST "/plugins/{name}/set" While unsupported::no_such_plugin;
    DELETE "/plugins/{name}" While unsupported::no_such_plugin;

    GET "/swarm" While unsupported::no_swarm;
    POST "/swarm/{name}" While unsupported::no_swarm;
    GET "/swarm/{name}" While unsupported::no_swarm;
    GET "/nodes" While unsupported::no_swarm;
    GET "/nodes/{name}" While unsupported::no_swarm;
    POST "/nodes/{name}/update" While unsupported::no_swarm;
    DELETE "/nodes/{name}" While unsupported::no_swarm;
    GET "/services" While unsupported::no_swarm;
    POST "/services/create" While unsupported::no_swarm;
    GET "/services/{name}" While unsupported::no_swarm;
    POST "/services/{name}/update" While unsupported::no_swarm;
    DELETE "/services/{name}" While unsupported::no_swarm;
    GET "/tasks" While unsupported::no_swarm;
    GET "/tasks/{name}" While unsupported::no_swarm;
    GET "/secrets" While unsupported::no_swarm;
    POST "/secrets/create" While unsupported::no_swarm;
    GET "/secrets/{name}" While unsupported::no_swarm;
    POST "/secrets/{name}/update" While unsupported::no_swarm;
    DELETE "/secrets/{name}" While unsupported::no_swarm;
    GET "/configs" While unsupported::no_swarm;
    POST "/configs/create" While unsupported::no_swarm;
    GET "/configs/{name}" While unsupported::no_swarm;
    POST "/configs/{name}/update" While unsupported::no_swarm;
    DELETE "/configs/{name}" While unsupported::no_swarm;
};

/// The handler of a decoded path without version, and what each `{name}` stands for.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Option<(Handler, [&'a str; 2])> {
    ROUTES
        .iter()
        .filter(|route| route.method == *method)
        .find_map(|route| Some((route.handler, matched(route.path, path)?)))
}

/// What each `{name}` stands for, empty text where the pattern has none; None when the path does not match.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<[&'a str; 2]> {
    match pattern.split_once("{name}") {
        Some((before, after)) => {
            let rest = path.strip_prefix(before)?;
            let names = match after.split_once("{name}") {
                Some((between, after)) => {
                    let (name, second) = rest.split_once(between)?;
                    [name, second.strip_suffix(after).filter(|second| !second.is_empty())?]
                }
                None => [rest.strip_suffix(after)?, ""],
            };
            (!names[0].is_empty()).then_some(names)
        }
        None => (pattern == path).then_some([""; 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_contain_slashes() {
        assert_eq!(matched("/images/{name}/json", "/images/host:5000/a/b/json"), Some(["host:5000/a/b", ""]));
        assert_eq!(matched("/images/{name}", "/images/host:5000/a/b"), Some(["host:5000/a/b", ""]));
        assert_eq!(matched("/containers/{name}/json", "/containers//x/json"), Some(["/x", ""]));
        assert_eq!(matched("/containers/{name}/json", "/containers/json"), None);
        let two = "/containers/{name}/checkpoints/{name}";
        assert_eq!(matched(two, "/containers/x/checkpoints/y"), Some(["x", "y"]));
        assert_eq!((matched(two, "/containers/x/checkpoints/"), matched(two, "/containers/x")), (None, None));
        assert_eq!(matched("/info", "/info"), Some(["", ""]));
        assert_eq!(matched("/info", "/info/"), None);
    }

    #[test]
    fn a_row_with_a_name_hides_no_row_without_one() {
        for (index, route) in ROUTES.iter().enumerate().filter(|(_, route)| !route.path.contains("{name}")) {
            let first = ROUTES
                .iter()
                .position(|other| other.method == route.method && matched(other.path, route.path).is_some());
            assert_eq!(first, Some(index), "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        assert!(find(&Method::GET, "/nothing").is_none());
        assert!(find(&Method::POST, "/version").is_none());
        assert!(find(&Method::DELETE, "/containers/").is_none());
        assert_eq!(find(&Method::DELETE, "/containers/x").map(|(_, name)| name), Some(["x", ""]));
    }
}
