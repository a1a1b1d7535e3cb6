//! TLS: the certificate of the server, which can be replaced while it runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// The name of HTTP/2 in the handshake (ALPN).
pub(crate) const HTTP2: &[u8] = b"h2";

/// The certificate and key of a server. Clones share them.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// Why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has no certificate or key in PEM format.
    #[error("`{path}` has no usable {what}: {cause}")]
    File {
        /// The file.
        path: String,
        /// The expected content: a certificate or a key.
        what: &'static str,
        /// The problem.
        cause: pem::Error,
    },
    /// The key is not that of the certificate, or of an unknown kind.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

/// The certificate for new connections.
#[derive(Debug)]
struct Current {
    certificate_file: PathBuf,
    key_file: PathBuf,
    key: RwLock<Arc<CertifiedKey>>,
}

impl Tls {
    /// Reads a certificate with its chain, and its key, from PEM files.
    ///
    /// # Errors
    ///
    /// Fails if the files cannot be used.
    pub fn read(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (certificate_file, key_file) = (certificate.into(), key.into());
        let key = RwLock::new(Arc::new(read(&certificate_file, &key_file)?));
        let current = Arc::new(Current {
            certificate_file,
            key_file,
            key,
        });
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth();
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(&current) as _;
        let mut config = config.with_cert_resolver(resolver);
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: Arc::new(config).into(),
            current,
        })
    }

    /// Reads the files again, for new connections. Returns whether the certificate has changed.
    ///
    /// # Errors
    /// Fails if the new ones cannot be used; those from before stay.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Current {
            certificate_file,
            key_file,
            key,
        } = &*self.current;
        let new = read(certificate_file, key_file)?;
        let mut current = key.write().unwrap_or_else(PoisonError::into_inner);
        let has_changed = current.cert != new.cert;
        *current = Arc::new(new);
        Ok(has_changed)
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }
}

/// Shows only the names of the files.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.current.certificate_file)
            .field("key", &self.current.key_file)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&key))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, what| {
        let path = path.display().to_string();
        move |cause| TlsError::File { path, what, cause }
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain: Vec<_> = chain.map_err(failed(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(failed(certificate, "certificate")(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed(key, "key"))?;
    Ok(CertifiedKey::from_der(
        chain,
        key,
        &ring::default_provider(),
    )?)
}
