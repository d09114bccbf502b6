//! Whom connections by TLS trust, and who they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// Where systems keep their authorities; the first that is there counts. The environment is not asked.
const AUTHORITIES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to trust, beside the authorities of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Who is at the other end, for errors.
    pub(crate) peer: String,
    /// Files of further authorities, in PEM.
    pub(crate) authorities: Vec<PathBuf>,
    /// Files of our own certificate and of its key, in PEM.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Anybody is trusted.
    pub(crate) unchecked: bool,
}

/// What cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{subject}: {reason}")]
pub(crate) struct Failure {
    /// A file, or several.
    pub(crate) subject: String,
    pub(crate) reason: String,
}

impl Failure {
    fn of(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> Self {
        let subject = path.display().to_string();
        move |reason| Self { subject: subject.clone(), reason: reason.to_string() }
    }
}

impl Trust {
    /// What a client of TLS is set up with. Reads the files.
    pub(crate) fn config(&self) -> Result<ClientConfig, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure { subject: "TLS".to_owned(), reason: error.to_string() })?;
        let builder = if self.unchecked {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked { provider }))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| Failure::of(certificate)(&error))?;
        let failed =
            |error: &dyn std::fmt::Display| Failure::of(key)(&format!("the key of {}: {error}", certificate.display()));
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(&error))?;
        builder.with_client_auth_cert(chain, key).map_err(|error| failed(&error))
    }

    fn roots(&self) -> Result<RootCertStore, Failure> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = AUTHORITIES.iter().map(Path::new).find(|path| path.exists()) {
            let found = rustls_native_certs::load_certs_from_paths(Some(file), None);
            roots.add_parsable_certificates(found.certs);
        }
        for path in &self.authorities {
            let failed = Failure::of(path);
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
                let certificate = certificate.map_err(|error| failed(&error))?;
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
        }
        if roots.is_empty() {
            let reason = format!("this host has no certificate authorities to check {} with", self.peer);
            return Err(Failure { subject: AUTHORITIES.join(", "), reason });
        }
        Ok(roots)
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Unchecked {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
