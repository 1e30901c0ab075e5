//! A cluster's own certificate authority: who may speak to the store.
//!
//! Never signs a key that it has seen: hosts keep theirs and send requests.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

/// A certificate or key could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what}: {why}")]
pub struct AuthorityError {
    what: &'static str,
    why: String,
}

/// Certificates hold for so many years; `weft init --rotate` renews them all before.
const YEARS: i64 = 10;

/// What servers of the store are called in their certificates; only they may speak to each other as such.
pub const SERVER: &str = "weft-etcd";

/// A key with its certificate, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pair: Pair,
}

fn failed(what: &'static str) -> impl Fn(rcgen::Error) -> AuthorityError {
    move |error| AuthorityError { what, why: error.to_string() }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = time::OffsetDateTime::now_utc();
    // A host whose clock is a little behind must not find them not yet valid.
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(365 * YEARS);
    params
}

impl Authority {
    /// A new authority, whose name says `name`.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn new(name: &str) -> Result<Authority, AuthorityError> {
        let fail = failed("make a certificate authority");
        let key = KeyPair::generate().map_err(&fail)?;
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).map_err(&fail)?.pem();
        Authority::read(Pair { cert, key: key.serialize_pem() })
    }

    /// An authority from its certificate and key.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn read(pair: Pair) -> Result<Authority, AuthorityError> {
        let fail = failed("read the certificate authority");
        let key = KeyPair::from_pem(&pair.key).map_err(&fail)?;
        let issuer = Issuer::from_ca_cert_pem(&pair.cert, key).map_err(&fail)?;
        Ok(Authority { issuer, pair })
    }

    /// Its certificate and key.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A server's key and certificate, for these addresses.
    ///
    /// # Errors
    /// When there are no random numbers.
    pub fn server(&self, addresses: &[IpAddr]) -> Result<Pair, AuthorityError> {
        let fail = failed("make a server's certificate");
        let key = KeyPair::generate().map_err(&fail)?;
        let cert = server_params(addresses).signed_by(&key, &self.issuer).map_err(&fail)?.pem();
        Ok(Pair { cert, key: key.serialize_pem() })
    }

    /// A server's certificate for the key of a request (PEM), for these addresses.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub fn server_for(&self, request: &str, addresses: &[IpAddr]) -> Result<String, AuthorityError> {
        let fail = failed("sign a request for a server's certificate");
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(&fail)?;
        request.params = server_params(addresses);
        Ok(request.signed_by(&self.issuer).map_err(&fail)?.pem())
    }

    /// A host's certificate for the key of a request (PEM). Of what the request says only the key counts.
    ///
    /// # Errors
    /// When the request makes no sense, or bears no signature of its key.
    pub fn client(&self, request: &str, name: &str) -> Result<String, AuthorityError> {
        let fail = failed("sign a request for a certificate");
        let mut request = CertificateSigningRequestParams::from_pem(request).map_err(&fail)?;
        let mut params = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        Ok(request.signed_by(&self.issuer).map_err(&fail)?.pem())
    }
}

fn server_params(addresses: &[IpAddr]) -> CertificateParams {
    let mut params = named(SERVER);
    params.subject_alt_names = addresses.iter().map(|a| SanType::IpAddress(*a)).collect();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A new key and the request to sign it, both in PEM: key first.
///
/// # Errors
/// When there are no random numbers.
pub fn request(name: &str) -> Result<(String, String), AuthorityError> {
    let fail = failed("make a key");
    let key = KeyPair::generate().map_err(&fail)?;
    let request = named(name).serialize_request(&key).map_err(&fail)?;
    Ok((key.serialize_pem(), request.pem().map_err(&fail)?))
}
