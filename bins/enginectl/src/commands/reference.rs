//! Names of images as far as a client must read them: where the tag is, and the full name that `pull` shows at its end.

/// A name of an image, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The repository as it was written.
    pub(crate) repository: String,
    /// The tag, if one was written.
    pub(crate) tag: Option<String>,
    /// The digest, if one was written.
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Takes a name apart. Whether it is a good one the daemon knows.
    pub(crate) fn parse(text: &str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text, None),
        };
        let (repository, tag) = match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag.to_owned())),
            _ => (name, None),
        };
        Self { repository: repository.to_owned(), tag, digest }
    }

    /// The name with the tag that is meant when there is none.
    pub(crate) fn tagged(&self) -> String {
        match (&self.tag, &self.digest) {
            (_, Some(digest)) => format!("{}@{digest}", self.repository),
            (Some(tag), None) => format!("{}:{tag}", self.repository),
            (None, None) => format!("{}:latest", self.repository),
        }
    }

    /// The whole name, with registry and all: `docker.io/library/busybox:latest`.
    pub(crate) fn full(&self) -> String {
        let familiar = self.tagged();
        match familiar.split_once('/') {
            Some((registry, _)) if is_registry(registry) => familiar,
            Some(_) => format!("docker.io/{familiar}"),
            None => format!("docker.io/library/{familiar}"),
        }
    }

    /// The same without a tag or a digest.
    pub(crate) fn full_repository(&self) -> String {
        let bare = Self { tag: None, digest: None, ..self.clone() }.full();
        bare.strip_suffix(":latest").unwrap_or(&bare).to_owned()
    }

    /// The registry that the name belongs to.
    pub(crate) fn registry(&self) -> &str {
        match self.repository.split_once('/') {
            Some((registry, _)) if is_registry(registry) => registry,
            _ => "docker.io",
        }
    }
}

fn is_registry(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed() {
        let check = |text: &str, tagged: &str, full: &str, registry: &str| {
            let reference = Reference::parse(text);
            assert_eq!(
                (reference.tagged().as_str(), reference.full().as_str(), reference.registry()),
                (tagged, full, registry),
                "{text}"
            );
        };
        check("busybox", "busybox:latest", "docker.io/library/busybox:latest", "docker.io");
        check("busybox:1.36", "busybox:1.36", "docker.io/library/busybox:1.36", "docker.io");
        check("me/app", "me/app:latest", "docker.io/me/app:latest", "docker.io");
        check("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest", "localhost:5000");
        check("localhost/app:1", "localhost/app:1", "localhost/app:1", "localhost");
        check("example.com/a/b:1@sha256:00", "example.com/a/b@sha256:00", "example.com/a/b@sha256:00", "example.com");
    }
}
