//! The exchange by which a host joins: one line there, one line back, over TLS whose authority the token names.
//!
//! The host's key never leaves it: it sends a request for a certificate. Nobody who cannot show the
//! authority's certificate, whose hash the token holds, ever sees the token's secret.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};
use serde::{Deserialize, Serialize};

use super::DOOR;
use super::token::{Token, hash};
use crate::failure::Failure;

/// Longer lines are refused.
pub(crate) const LONGEST: u64 = 64 << 10;
/// How long the door may take for each part of its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a host asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    pub(crate) token: String,
    pub(crate) secret: String,
    /// What it will be called.
    pub(crate) node: String,
    /// Its request for a certificate (PEM).
    pub(crate) request: String,
    /// If it wants to run a share of the store.
    pub(crate) member: Option<AskMember>,
}

/// The same for a share of the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AskMember {
    /// Its address on the underlay.
    pub(crate) address: IpAddr,
    /// The request for its server's certificate (PEM).
    pub(crate) request: String,
}

/// What it gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Joined(Box<Joined>),
    Refused { why: String },
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// Whom to trust (PEM).
    pub(crate) trusted: String,
    /// The host's certificate (PEM).
    pub(crate) cert: String,
    /// Where the store is.
    pub(crate) endpoints: Vec<String>,
    pub(crate) member: Option<JoinedMember>,
    /// Instead of all these: a store that runs elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<Elsewhere>,
}

/// A store that is not weft's own, and what opens it: the same for all hosts that join by a token.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Elsewhere {
    pub(crate) address: String,
    pub(crate) ca: Option<String>,
    pub(crate) cert: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) plaintext: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JoinedMember {
    /// The server's certificate (PEM).
    pub(crate) cert: String,
    /// All members, as etcd's `--initial-cluster` has it.
    pub(crate) initial: String,
    /// The authority itself: a member can let others in.
    pub(crate) authority_cert: String,
    pub(crate) authority_key: String,
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Asks one door after the other until one answers.
pub(crate) fn ask(token: &Token, ask: &Ask) -> anyhow::Result<Joined> {
    let mut last = None;
    for door in &token.doors {
        let address = SocketAddr::from((*door, DOOR));
        match ask_one(address, token, ask) {
            Ok(Answer::Joined(joined)) => return Ok(*joined),
            Ok(Answer::Refused { why }) => {
                bail!(
                    Failure::new(format!("{address} refused: {why}"))
                        .hint("`weft token` on a member of the cluster prints a new invitation")
                )
            }
            Err(error) => last = Some(error.context(format!("no answer from {address}"))),
        }
    }
    let error = last.unwrap_or_else(|| anyhow::anyhow!("the token names no door"));
    let hint = "see that the host which printed the token runs, and that its port 2378 is reached from here";
    Err(error.context(Failure::new("failed to join").hint(hint)))
}

fn ask_one(address: SocketAddr, token: &Token, ask: &Ask) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let verifier = Pinned { authority: token.authority.clone(), provider: provider() };
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::from(address.ip()))?;
    let mut tls = StreamOwned::new(connection, stream);
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    tls.write_all(&line).context("failed to speak to it")?;
    tls.flush()?;
    let mut answer = Vec::new();
    let read = BufReader::new(tls.take(LONGEST)).read_until(b'\n', &mut answer);
    if answer.is_empty() {
        read.context("failed to hear its answer")?;
        bail!("it hung up");
    }
    serde_json::from_slice(&answer).context("its answer makes no sense: are both of one version?")
}

/// Believes a server whose certificate was signed by the authority with this hash, and nobody else.
#[derive(Debug)]
struct Pinned {
    authority: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority =
            intermediates.iter().find(|c| hash(c.as_ref()) == self.authority).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let verifier = verifier.build().map_err(|_| unknown())?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
