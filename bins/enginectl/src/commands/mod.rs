//! The commands: a folder a kind of object, a file a command with its flags and what it does.

pub(crate) mod checkpoint;
pub(crate) mod completion;
pub(crate) mod container;
pub(crate) mod filters;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod manifest;
pub(crate) mod network;
pub(crate) mod prompt;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod several;
pub(crate) mod suggest;
pub(crate) mod system;
pub(crate) mod volume;

use crate::args::{Entry, Noun, entry};

/// The commands without a noun, in the order of the help.
pub(crate) const TOP: &[Entry] = &[
    entry!("run", container::run),
    entry!("exec", container::exec),
    entry!("ps", container::ps),
    entry!("pull", image::pull),
    entry!("push", image::push),
    entry!("images", image::ls),
    entry!("login", registry::login),
    entry!("logout", registry::logout),
    entry!("search", registry::search),
    entry!("attach", container::attach),
    entry!("cp", container::cp),
    entry!("commit", container::commit),
    entry!("create", container::create),
    entry!("diff", container::diff),
    entry!("events", system::events),
    entry!("export", container::export),
    entry!("history", image::history),
    entry!("import", image::import),
    entry!("info", system::overview),
    entry!("inspect", inspect),
    entry!("kill", container::kill),
    entry!("load", image::load),
    entry!("logs", container::logs),
    entry!("pause", container::pause),
    entry!("port", container::port),
    entry!("rename", container::rename),
    entry!("restart", container::restart),
    entry!("rm", container::rm),
    entry!("rmi", image::rm),
    entry!("save", image::save),
    entry!("start", container::start),
    entry!("stats", container::stats),
    entry!("stop", container::stop),
    entry!("tag", image::tag),
    entry!("top", container::top),
    entry!("unpause", container::unpause),
    entry!("update", container::update),
    entry!("version", system::version),
    entry!("wait", container::wait),
    entry!("completion", completion),
];

/// The nouns and their commands.
pub(crate) const NOUNS: &[Noun] = &[
    Noun {
        name: "container",
        about: "Commands on containers",
        entries: &[
            entry!("run", container::run),
            entry!("exec", container::exec),
            entry!("ls" | "list" | "ps", container::ps),
            entry!("attach", container::attach),
            entry!("cp", container::cp),
            entry!("commit", container::commit),
            entry!("create", container::create),
            entry!("diff", container::diff),
            entry!("export", container::export),
            entry!("inspect", container::inspect),
            entry!("kill", container::kill),
            entry!("logs", container::logs),
            entry!("pause", container::pause),
            entry!("port", container::port),
            entry!("prune", container::prune),
            entry!("rename", container::rename),
            entry!("restart", container::restart),
            entry!("rm" | "remove", container::rm),
            entry!("start", container::start),
            entry!("stats", container::stats),
            entry!("stop", container::stop),
            entry!("top", container::top),
            entry!("unpause", container::unpause),
            entry!("update", container::update),
            entry!("wait", container::wait),
        ],
    },
    Noun {
        name: "checkpoint",
        about: "Commands on checkpoints",
        entries: &[
            entry!("create", checkpoint::create),
            entry!("ls" | "list", checkpoint::ls),
            entry!("rm" | "remove", checkpoint::rm),
        ],
    },
    Noun {
        name: "image",
        about: "Commands on images",
        entries: &[
            entry!("ls" | "list", image::ls),
            entry!("export", container::export),
            entry!("history", image::history),
            entry!("import", image::import),
            entry!("inspect", image::inspect),
            entry!("load", image::load),
            entry!("prune", image::prune),
            entry!("pull", image::pull),
            entry!("push", image::push),
            entry!("referrers", manifest::referrers),
            entry!("rm" | "remove", image::rm),
            entry!("save", image::save),
            entry!("tag", image::tag),
        ],
    },
    Noun {
        name: "network",
        about: "Commands on networks",
        entries: &[
            entry!("connect", network::connect),
            entry!("create", network::create),
            entry!("disconnect", network::disconnect),
            entry!("inspect", network::inspect),
            entry!("ls" | "list", network::ls),
            entry!("prune", network::prune),
            entry!("rm" | "remove", network::rm),
        ],
    },
    Noun {
        name: "volume",
        about: "Commands on volumes",
        entries: &[
            entry!("create", volume::create),
            entry!("export", volume::export),
            entry!("import", volume::import),
            entry!("inspect", volume::inspect),
            entry!("ls" | "list", volume::ls),
            entry!("prune", volume::prune),
            entry!("rm" | "remove", volume::rm),
        ],
    },
    Noun {
        name: "system",
        about: "Commands on the engine",
        entries: &[
            entry!("check", system::check),
            entry!("df", system::df),
            entry!("events", system::events),
            entry!("info", system::overview),
            entry!("prune", system::prune),
            entry!("trim", system::trim),
        ],
    },
    Noun {
        name: "manifest",
        about: "Commands on what registries have",
        entries: &[entry!("inspect", manifest::inspect), entry!("referrers", manifest::referrers)],
    },
];
