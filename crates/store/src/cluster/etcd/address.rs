//! Where an etcd is and how to be let in: `etcd://h1:2379,h2:2379`, certificates, a password.
//!
//! Never connects.

use std::path::{Path, PathBuf};

use crate::cluster::ClusterError;

/// Where etcd listens unless it is told otherwise.
const PORT: u16 = 2379;

/// How to be let in, as files. All are read again for each new connection, so that they may be renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The authority that signed the servers' certificates (PEM). With it the connection is TLS.
    pub ca: Option<PathBuf>,
    /// This host's certificate (PEM).
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// The user of etcd's own authentication.
    pub user: Option<String>,
    /// A file with that user's password on its first line.
    pub password_file: Option<PathBuf>,
    /// Whether a connection to another host may go without TLS.
    pub plaintext: bool,
}

/// Servers of one store, and the prefix of weft's keys there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `host:port` each.
    pub hosts: Vec<String>,
    /// Begins and ends with a slash.
    pub prefix: String,
}

impl Address {
    /// Reads `etcd://host[:port],…[/prefix]`.
    ///
    /// # Errors
    /// [`ClusterError::Address`].
    pub fn parse(text: &str) -> Result<Address, ClusterError> {
        let wrong = |why: &str| ClusterError::Address { address: text.to_owned(), why: why.to_owned() };
        let rest = text.strip_prefix("etcd://").ok_or_else(|| wrong("it does not begin with etcd://"))?;
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').map(host).collect::<Option<Vec<_>>>();
        let hosts = hosts.ok_or_else(|| wrong("a server is HOST, HOST:PORT or [IPV6]:PORT"))?;
        let prefix = prefix.trim_matches('/');
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
        if !prefix.chars().all(fine) || prefix.contains("//") {
            return Err(wrong("a prefix consists of letters, digits, '.', '_', '-' and '/'"));
        }
        let prefix = if prefix.is_empty() { "/weft/".to_owned() } else { format!("/{prefix}/") };
        Ok(Address { hosts, prefix })
    }

    /// Whether all servers are on this host itself.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.hosts.iter().all(|host| {
            let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
            let name = name.trim_start_matches('[').trim_end_matches(']');
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
        })
    }
}

/// One server as `host:port`.
fn host(text: &str) -> Option<String> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            (format!("[{address}]"), port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name.to_owned(), Some(port)),
            None => (text.to_owned(), Some("")),
        },
    };
    let port: u16 = match port? {
        "" => PORT,
        port => port.parse().ok().filter(|p| *p > 0)?,
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    (!name.is_empty() && name.chars().all(fine)).then(|| format!("{name}:{port}"))
}

/// Reads a file with a credential.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ClusterError> {
    std::fs::read(path)
        .map_err(|error| ClusterError::Credential { path: path.to_owned(), why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let parse = |text: &str| Address::parse(text).map(|a| (a.hosts.join(" "), a.prefix));
        let plain = Ok(("10.0.0.1:2379".to_owned(), "/weft/".to_owned()));
        assert_eq!(parse("etcd://10.0.0.1"), plain);
        assert_eq!(parse("etcd://10.0.0.1:2379/"), plain);
        let two = Ok(("a.example:1 [fd00::1]:2379".to_owned(), "/one/two/".to_owned()));
        assert_eq!(parse("etcd://a.example:1,[fd00::1]/one/two"), two);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "etcd://",
            "http://a:1",
            "etcd://a:0",
            "etcd://a:x",
            "etcd://a,,b",
            "etcd://[fd00::1",
            "etcd://a b",
            "etcd://a:1/p q",
            "etcd://user@a",
            "etcd://fd00::1",
            "etcd://a/../b c",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_this_host_is_local() {
        let local = |text: &str| Address::parse(text).expect("an address").is_local();
        assert!(local("etcd://127.0.0.1,[::1]:5,localhost"));
        assert!(!local("etcd://127.0.0.1,10.0.0.1"));
    }
}
