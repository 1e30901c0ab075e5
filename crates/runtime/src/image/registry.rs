//! Registries: manifests and blobs over HTTP (OCI distribution specification 1.1), with the two ways in which they ask
//! who is there. Only reading; one thread a request, no runtime (docs/decisions/0009-own-registry-client.md).

mod challenge;
mod credentials;
mod error;
mod http;

use std::io::Read;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode, header};

use self::challenge::Challenge;
use super::document::media;
use super::{Digest, Limits, Reference};

pub use credentials::Credentials;
pub use error::RegistryError;

/// How a registry is spoken to.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// Who is there; none: nobody in particular.
    pub credentials: Option<Credentials>,
    /// A PEM file of certificate authorities that are trusted beside the host's.
    pub authorities: Option<std::path::PathBuf>,
    /// Without TLS: everybody on the way can read and change what comes, but for what digests guard.
    pub plain_http: bool,
}

/// One repository of a registry.
#[derive(Debug)]
pub struct Registry {
    agent: Agent,
    /// `https://HOST/v2/REPOSITORY`
    base: String,
    host: String,
    repository: String,
    options: RegistryOptions,
    /// What it wants to see in `Authorization`, once it is known.
    ticket: Mutex<Option<String>>,
}

/// A blob on its way.
pub(crate) struct Body {
    pub(crate) reader: Box<dyn Read + Send>,
    /// The byte that it begins with.
    pub(crate) from: u64,
}

/// Most bytes of an answer that is neither a manifest nor a blob.
const ANSWER: u64 = 256 << 10;

impl Registry {
    /// The repository that a name says.
    ///
    /// # Errors
    /// [`RegistryError`], if the name says no registry, or the authorities cannot be read.
    pub fn of(reference: &Reference, options: RegistryOptions) -> Result<Registry, RegistryError> {
        let Some(host) = reference.registry() else {
            return Err(RegistryError::NoRegistry(reference.to_string()));
        };
        let agent = http::agent(&options)?;
        let repository = match reference.repository() {
            // Docker's registry has another host for programs, and a folder for names without one.
            name if host == "docker.io" && !name.contains('/') => format!("library/{name}"),
            name => name.to_owned(),
        };
        let address = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if options.plain_http { "http" } else { "https" };
        Ok(Registry {
            agent,
            base: format!("{scheme}://{address}/v2/{repository}"),
            host: host.to_owned(),
            repository,
            options,
            ticket: Mutex::new(None),
        })
    }

    /// The bytes of a manifest or an index, by tag or digest. Whoever calls checks the digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn manifest(&self, version: &str, limits: &Limits) -> Result<Vec<u8>, RegistryError> {
        let accept = [media::INDEX, media::DOCKER_LIST, media::MANIFEST, media::DOCKER_MANIFEST].join(", ");
        let url = format!("{}/manifests/{version}", self.base);
        let what = format!("{}:{version}", self.repository);
        let response = self.ask(&url, &what, &[(header::ACCEPT.as_str(), accept)])?;
        // One more than is taken: whoever parses it says that it is too long.
        self.read(response, limits.manifest + 1)
    }

    /// A blob, from a byte on if the registry can do that.
    pub(crate) fn blob(&self, digest: &Digest, from: u64) -> Result<Body, RegistryError> {
        let url = format!("{}/blobs/{digest}", self.base);
        let range = [(header::RANGE.as_str(), format!("bytes={from}-"))];
        let range = if from > 0 { &range[..] } else { &[] };
        let response = self.ask(&url, &digest.to_string(), range)?;
        let from = match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(response.headers(), from) => from,
            StatusCode::PARTIAL_CONTENT => {
                return Err(RegistryError::Nonsense {
                    host: self.host.clone(),
                    what: "another range than was asked for",
                });
            }
            _ => 0,
        };
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Body { reader: Box::new(reader), from })
    }

    /// One request, and a second one if the registry first wants to know who is there.
    fn ask(
        &self,
        url: &str,
        what: &str,
        headers: &[(&str, String)],
    ) -> Result<Response<ureq::Body>, RegistryError> {
        let known = self.ticket.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let had_one = known.is_some();
        let mut response = self.get(url, headers, known.as_deref())?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let ticket = self.ticket_for(response.headers())?;
            response = self.get(url, headers, Some(&ticket))?;
            *self.ticket.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticket);
        }
        let host = self.host.clone();
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(RegistryError::Range),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let user = self.options.credentials.as_ref().map(|c| c.user.clone());
                Err(RegistryError::Refused { host, user, again: had_one })
            }
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound { host, what: what.to_owned() }),
            status => {
                let words = self.read(response, ANSWER).ok().and_then(|b| error::first_message(&b));
                Err(RegistryError::Status { host, what: what.to_owned(), status: status.as_u16(), words })
            }
        }
    }

    fn get(
        &self,
        url: &str,
        headers: &[(&str, String)],
        ticket: Option<&str>,
    ) -> Result<Response<ureq::Body>, RegistryError> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(ticket) = ticket {
            request = request.header(header::AUTHORIZATION, ticket);
        }
        request.call().map_err(|source| self.failed(source))
    }

    /// What to show from now on: name and password, or a token that is asked for with them.
    fn ticket_for(&self, headers: &HeaderMap) -> Result<String, RegistryError> {
        let said: Vec<&str> =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).collect();
        let host = || self.host.clone();
        match challenge::choose(&said) {
            Some(Challenge::Basic) => match &self.options.credentials {
                Some(known) => Ok(basic(known)),
                None => Err(RegistryError::Refused { host: host(), user: None, again: false }),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                if !realm.starts_with("https://") && !self.options.plain_http {
                    return Err(RegistryError::PlainRealm { host: host(), realm });
                }
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                self.token(&realm, service.as_deref(), &scope)
            }
            None => Err(RegistryError::Nonsense { host: host(), what: "no way to say who is there" }),
        }
    }

    /// Asks the token server that the registry named (distribution project, "Token Authentication Specification").
    fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<String, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut request = self.agent.get(realm).query("scope", scope);
        if let Some(service) = service {
            request = request.query("service", service);
        }
        if let Some(known) = &self.options.credentials {
            request = request.header(header::AUTHORIZATION, basic(known));
        }
        let response = request.call().map_err(|source| self.failed(source))?;
        let host = self.host.clone();
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let user = self.options.credentials.as_ref().map(|c| c.user.clone());
                return Err(RegistryError::Refused { host, user, again: false });
            }
            status => {
                let (what, status) = ("a token".to_owned(), status.as_u16());
                return Err(RegistryError::Status { host, what, status, words: None });
            }
        }
        let nonsense = || RegistryError::Nonsense { host: self.host.clone(), what: "no token" };
        let answer: Answer = serde_json::from_slice(&self.read(response, ANSWER)?).map_err(|_| nonsense())?;
        let token = answer.token.or(answer.access_token).ok_or_else(nonsense)?;
        // It goes into a header: no line may begin in it.
        let sound = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if sound { Ok(format!("Bearer {token}")) } else { Err(nonsense()) }
    }

    fn read(&self, response: Response<ureq::Body>, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let read = reader.take(limit).read_to_end(&mut bytes);
        read.map_err(|source| RegistryError::Cut { host: self.host.clone(), source })?;
        Ok(bytes)
    }

    fn failed(&self, source: ureq::Error) -> RegistryError {
        RegistryError::Reach { host: self.host.clone(), source: Box::new(source) }
    }

    /// The registry, for messages.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

fn basic(known: &Credentials) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", known.user, known.password)))
}

/// True if the answer begins with the byte that was asked for: `Content-Range: bytes FROM-TO/ALL` (RFC 9110, 14.4).
fn starts_at(headers: &HeaderMap, from: u64) -> bool {
    let value = headers.get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let first = value.strip_prefix("bytes ").and_then(|rest| rest.split('-').next());
    first.and_then(|first| first.trim().parse::<u64>().ok()) == Some(from)
}
