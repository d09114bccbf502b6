//! The distribution client: finds out where a registry is and how it wants to be asked, and fetches documents and
//! blobs, all of it bounded in size and time. Sources: the OCI distribution specification, Docker's token flow.

mod account;
mod body;
mod challenge;
mod download;
mod endpoint;
mod proxy;
mod referrers;
mod session;
mod token;
mod transport;
mod upload;
mod web;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use crate::error::ErrorKind;
use crate::oci::{self, Digest, Reference};
use crate::settings::RegistrySettings;

pub use account::Found;
pub use challenge::Challenge;
pub use download::BlobReader;
pub use endpoint::Endpoint;
pub use session::{Fetched, Session};
pub use upload::Uploaded;
pub use web::WebFile;

/// Who asks.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// The account.
    pub username: String,
    /// Its password.
    pub password: String,
    /// A refresh token, instead of a password.
    pub identity_token: String,
    /// A token that is sent as it is.
    pub registry_token: String,
}

impl Auth {
    /// Whether there is nothing to show to anybody.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// The client of all registries. Cheap to clone; connections are kept and shared.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: RegistrySettings,
    proxies: Arc<proxy::Proxies>,
    plain: transport::Plain,
    /// By host, because each may have authorities of its own; made when first needed, for reading them takes a while.
    secure: Mutex<HashMap<String, transport::Secure>>,
    /// What registries wanted to see, so that the next conversation begins with it.
    remembered: Mutex<Remembered>,
}

/// Authorizations by what they are for, the oldest forgotten first.
#[derive(Default)]
struct Remembered {
    known: HashMap<String, String>,
    order: VecDeque<String>,
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} authorizations", self.known.len())
    }
}

impl Remembered {
    const MOST: usize = 256;

    fn get(&self, key: &str) -> Option<String> {
        self.known.get(key).cloned()
    }

    fn put(&mut self, key: String, authorization: String) {
        if self.known.insert(key.clone(), authorization).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > Self::MOST {
            self.order.pop_front().and_then(|oldest| self.known.remove(&oldest));
        }
    }
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: &RegistrySettings) -> Result<Self, Error> {
        for mirror in &settings.mirrors {
            endpoint::parse_mirror(mirror)?;
        }
        let proxies = Arc::new(proxy::Proxies::new(&settings.proxy, settings.certificates.as_deref())?);
        let shared = Shared {
            settings: settings.clone(),
            plain: transport::plain(proxies.clone()),
            proxies,
            secure: Mutex::default(),
            remembered: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Blobs that one pull downloads at once; at least one.
    pub fn concurrent_downloads(&self) -> usize {
        self.shared.settings.concurrent_downloads.max(1)
    }

    /// Blobs that one push uploads at once; at least one.
    pub fn concurrent_uploads(&self) -> usize {
        self.shared.settings.concurrent_uploads.max(1)
    }

    /// Where an image may be had, the best first.
    pub fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        endpoint::of(&self.shared.settings, reference.registry())
    }

    /// Where an image can be put: never at a mirror.
    pub fn destinations(&self, reference: &Reference) -> Vec<Endpoint> {
        self.endpoints(reference).into_iter().filter(|endpoint| !endpoint.is_mirror()).collect()
    }

    /// A conversation about one repository that is to be written to. `sources` are repositories of the same registry
    /// that blobs may be taken over from.
    pub fn writing(&self, endpoint: Endpoint, reference: &Reference, auth: &Auth, sources: Vec<String>) -> Session {
        Session::with(self.clone(), endpoint, reference, auth, "pull,push", sources)
    }

    /// A conversation about one repository.
    pub fn session(&self, endpoint: Endpoint, reference: &Reference, auth: &Auth) -> Session {
        Session::new(self.clone(), endpoint, reference, auth)
    }
}

/// What can go wrong with a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such image.
    #[error("manifest for {reference} not found: {cause}")]
    ManifestUnknown {
        /// The image.
        reference: String,
        /// What the registry says.
        cause: String,
    },
    /// There is no such repository.
    #[error("repository {name} not found: {cause}")]
    NameUnknown {
        /// The repository.
        name: String,
        /// What the registry says.
        cause: String,
    },
    /// The registry does not tell who asks.
    #[error("{action} access denied for {name}, repository does not exist or may require 'docker login': {cause}")]
    Denied {
        /// What was to be done: `pull` or `push`.
        action: &'static str,
        /// The repository.
        name: String,
        /// What the registry says.
        cause: String,
    },
    /// The registry wants other credentials.
    #[error("unauthorized: {0}")]
    Unauthorized(String),
    /// The registry is asked too often.
    #[error("toomanyrequests: {0}")]
    TooManyRequests(String),
    /// The registry answers with an error.
    #[error("{method} {url:?}: unexpected status from the registry: {status}: {cause}")]
    Status {
        /// How it was asked.
        method: String,
        /// What it was asked.
        url: String,
        /// Its status code.
        status: u16,
        /// What it says.
        cause: String,
    },
    /// The registry cannot be reached.
    #[error("Get {url:?}: {cause}")]
    Unreachable {
        /// What it was asked.
        url: String,
        /// Why there was no answer.
        cause: String,
    },
    /// The registry answers with what it should not, or not with what it should.
    #[error("the registry misbehaves: {0}")]
    Misbehaved(String),
    /// A part of a blob was asked for, and the whole of it would come.
    #[error("the registry gives blobs only as a whole")]
    NoRanges,
    /// The bytes are not those of the digest.
    #[error("verification of {what} failed: expected {expected}, got {found}")]
    Mismatch {
        /// Which bytes.
        what: &'static str,
        /// What was promised.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The registry cannot be searched.
    #[error("registry {registry} does not offer search: only registries with Docker Hub's search at /v1/search do")]
    NoSearch {
        /// Which one.
        registry: String,
    },
    /// This host failed us.
    #[error("{0}")]
    Local(String),
    /// A document is wrong.
    #[error(transparent)]
    Oci(#[from] oci::Error),
    /// A setting makes no sense.
    #[error("invalid registry setting {value:?}: {reason}")]
    Setting {
        /// The setting.
        value: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ManifestUnknown { .. } | Self::NameUnknown { .. } | Self::Denied { .. } => ErrorKind::NotFound,
            Self::Unauthorized(_) => ErrorKind::Unauthorized,
            Self::NoSearch { .. } | Self::NoRanges => ErrorKind::Unsupported,
            Self::TooManyRequests(_) | Self::Unreachable { .. } => ErrorKind::Unavailable,
            Self::Status { status, .. } if *status >= 500 => ErrorKind::Unavailable,
            Self::Status { .. } | Self::Misbehaved(_) | Self::Mismatch { .. } | Self::Local(_) => ErrorKind::Internal,
            Self::Oci(error) => error.kind(),
            Self::Setting { .. } => ErrorKind::Invalid,
        }
    }
}
