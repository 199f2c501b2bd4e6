//! The certificate of a listener that speaks TLS; another can take its place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a certificate cannot be used. Says nothing of the key but its file's name.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificate {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// A file is not PEM, or has not in it what it should have.
    #[error("{0} has no {1} in PEM's form (`-----BEGIN ...`)")]
    NotPem(PathBuf, &'static str),
    /// They do not belong together, or are of a kind that is not known.
    #[error("the certificate {0} cannot be used with the key {1}: {2}")]
    Refused(PathBuf, PathBuf, rustls::Error),
}

/// A certificate in force.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<ArcSwap<ServerConfig>>);

impl Certificate {
    /// The chain in one PEM file with the key in another.
    ///
    /// # Errors
    /// Where either cannot be read or they do not fit.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, BadCertificate> {
        configured(chain, key).map(|config| Self(Arc::new(ArcSwap::from_pointee(config))))
    }

    /// Reads them again, for connections from now on.
    ///
    /// # Errors
    /// As of [`Self::read`]; the one before stays.
    pub fn replace(&self, chain: &Path, key: &Path) -> Result<(), BadCertificate> {
        configured(chain, key).map(|config| self.0.store(Arc::new(config)))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

fn configured(chain: &Path, key: &Path) -> Result<ServerConfig, BadCertificate> {
    let of = |path: &Path, what: &'static str| {
        let path = path.to_owned();
        move |error| match error {
            PemError::Io(error) => BadCertificate::Unreadable(path, error),
            _ => BadCertificate::NotPem(path, what),
        }
    };
    let certificates = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect);
    let certificates: Vec<_> = certificates.map_err(of(chain, "certificate"))?;
    if certificates.is_empty() {
        return Err(BadCertificate::NotPem(chain.to_owned(), "certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(of(key, "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private));
    let mut config = config.map_err(|e| BadCertificate::Refused(chain.to_owned(), key.to_owned(), e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
