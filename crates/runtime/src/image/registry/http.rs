//! The HTTP client: rustls with ring, the authorities that this host trusts, and time-outs, so that a silent server
//! holds nobody for ever.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::{RegistryError, RegistryOptions};

/// Where systems keep the authorities that they trust: Debian and Alpine, Fedora, openSUSE.
const TRUSTED: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(super) fn agent(options: &RegistryOptions) -> Result<Agent, RegistryError> {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(authorities(options)?)))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(!options.plain_http)
        .http_status_as_error(false)
        // Blobs often lie with another company: it gets no password of the registry.
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .max_redirects(5)
        .user_agent(concat!("weft/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(Duration::from_secs(10)))
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .build();
    Ok(config.new_agent())
}

fn authorities(options: &RegistryOptions) -> Result<Vec<Certificate<'static>>, RegistryError> {
    let mut all = Vec::new();
    if options.plain_http {
        return Ok(all);
    }
    // OpenSSL's variable, which administrators know.
    let own = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let trusted = own.or_else(|| TRUSTED.iter().map(PathBuf::from).find(|path| path.exists()));
    for path in trusted.iter().chain(&options.authorities) {
        let before = all.len();
        let failed = |why: String| RegistryError::Authorities { path: path.clone(), why };
        let pem = fs::read(path).map_err(|error| failed(error.to_string()))?;
        for item in parse_pem(&pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => all.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        if all.len() == before && Some(path.as_path()) == options.authorities.as_deref().map(Path::new) {
            return Err(failed("there is no certificate in it".to_owned()));
        }
    }
    Ok(all)
}
