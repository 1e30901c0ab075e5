//! Invitations: what a host needs to know to join, and nothing that helps whoever finds it later.
//!
//! A token says where the door is, which authority must vouch for it, and a secret that is good for one
//! host until it expires. The store keeps only the secret's hash, bound to a lease: time is the server's.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// An invitation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// Under which key the store knows it.
    pub(crate) id: String,
    /// 128 bits that nobody can guess.
    pub(crate) secret: String,
    /// The SHA-256 of the authority's certificate.
    pub(crate) authority: String,
    /// Hosts with a door.
    pub(crate) doors: Vec<IpAddr>,
}

/// What the store keeps of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The SHA-256 of the secret.
    pub(crate) hash: String,
    /// The one host that it is for, which is in the cluster already and gets new certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) renews: Option<String>,
}

const VERSION: &str = "weft1";

impl Token {
    pub(crate) fn new(authority: String, doors: Vec<IpAddr>) -> anyhow::Result<Token> {
        Ok(Token { id: random::<8>()?, secret: random::<16>()?, authority, doors })
    }

    pub(crate) fn kept(&self, renews: Option<&str>) -> Kept {
        Kept { hash: hash(self.secret.as_bytes()), renews: renews.map(str::to_owned) }
    }
}

/// The SHA-256 of some bytes, in hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn random<const N: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("there are no random numbers"))?;
    Ok(hex(&bytes))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doors: Vec<String> = self.doors.iter().map(ToString::to_string).collect();
        write!(f, "{VERSION}-{}-{}-{}-{}", self.id, self.secret, self.authority, doors.join(","))
    }
}

/// Its secret is nobody's business.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("id", &self.id).field("doors", &self.doors).finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Token, String> {
        let wrong =
            || "it is no token: copy the whole line that `weft init` or `weft token` printed".to_owned();
        let parts: Vec<&str> = text.trim().splitn(5, '-').collect();
        let [VERSION, id, secret, authority, doors] = parts.as_slice() else { return Err(wrong()) };
        let digits = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        if !(digits(id, 16) && digits(secret, 32) && digits(authority, 64)) {
            return Err(wrong());
        }
        let doors: Vec<IpAddr> =
            doors.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
        let own = |text: &&str| (*text).to_owned();
        Ok(Token { id: own(id), secret: own(secret), authority: own(authority), doors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_written_and_read_alike() {
        let doors = vec!["192.0.2.11".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let token = Token::new(hash(b"ca"), doors).unwrap();
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        assert_ne!(Token::new(hash(b"ca"), vec![]).unwrap().secret, token.secret);
        assert!(!format!("{token:?}").contains(&token.secret), "a secret in a log");
        assert!(!serde_json::to_string(&token.kept(None)).unwrap().contains(&token.secret));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = Token::new(hash(b"ca"), vec!["192.0.2.11".parse().unwrap()]).unwrap().to_string();
        for bad in
            ["", "weft1", "weft2-a-b-c-d", &good[..good.len() - 12], &good.replace('.', ":"), &good[1..]]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
