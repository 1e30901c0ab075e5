//! Which life of which host this is: a number per boot, and what stays over boots.
//!
//! Never taken from anything that a copied disk would share: a copy boots, and is another from then on.

use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use weft_model::Mac;
use weft_store::cluster::Incarnation;

use crate::{clock, random};

const FILE: &str = "identity.json";

/// What tells this host from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The boot that `incarnation` is of.
    boot: String,
    /// This life of the host; the agent may be restarted in it.
    pub(crate) incarnation: Incarnation,
    /// The Ethernet address of its ends of tunnels.
    pub(crate) mac: Mac,
}

/// Reads the identity, or makes it where it is missing or of another boot.
pub(crate) fn read(state_dir: &Path) -> Identity {
    let (path, boot) = (state_dir.join(FILE), clock::boot_id());
    let kept: Option<Identity> =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let Some(identity) = kept.as_ref().filter(|i| i.boot == boot) {
        return identity.clone();
    }
    let mac = kept.map_or_else(|| Mac::from_seed(random()), |kept| kept.mac);
    let identity = Identity { boot, incarnation: Incarnation(random()), mac };
    if let Err(error) = write(&path, &identity) {
        tracing::warn!(%error, path = %path.display(), "failed to record this host's identity");
    }
    identity
}

fn write(path: &Path, identity: &Identity) -> std::io::Result<()> {
    let aside = path.with_extension("new");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(&serde_json::to_vec(identity).map_err(std::io::Error::other)?)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_lasts_for_a_boot_and_its_tunnels_longer() {
        let folder = tempfile::tempdir().unwrap();
        let first = read(folder.path());
        assert_eq!(read(folder.path()), first, "a restarted agent is the same");
        let (life, mac) = (first.incarnation, first.mac);
        write(&folder.path().join(FILE), &Identity { boot: "before".into(), ..first }).unwrap();
        let second = read(folder.path());
        assert_ne!(second.incarnation, life, "another boot is another life");
        assert_eq!(second.mac, mac);
    }
}
