//! Names and passwords for registries: given by hand, or from the file that other tools write.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::RegistryError;

/// Who is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password, or a token in its place.
    pub password: String,
}

impl fmt::Debug for Credentials {
    /// Without the password: it must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.user)
    }
}

impl Credentials {
    /// Those for a registry in a file of Docker's form (`docker login`, `podman login --authfile`):
    /// `{"auths": {"HOST": {"auth": BASE64 of NAME:PASSWORD}}}`.
    ///
    /// # Errors
    /// [`RegistryError`], if the file cannot be read or makes no sense.
    pub fn from_file(path: &Path, registry: &str) -> Result<Option<Credentials>, RegistryError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            auths: BTreeMap<String, Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            auth: Option<String>,
        }
        let failed = |why: String| RegistryError::AuthFile { path: path.to_owned(), why };
        let bytes = fs::read(path).map_err(|error| failed(error.to_string()))?;
        let file: File = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
        let names = [registry.to_owned(), format!("https://{registry}"), format!("https://{registry}/v1/")];
        // Docker's own name for its registry.
        let docker = (registry == "docker.io").then(|| format!("https://index.{registry}/v1/"));
        let entry = names.iter().chain(&docker).find_map(|name| file.auths.get(name));
        let Some(auth) = entry.and_then(|entry| entry.auth.as_deref()).filter(|auth| !auth.is_empty()) else {
            return Ok(None);
        };
        let nonsense = || failed(format!("what it says of {registry} makes no sense"));
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| nonsense())?;
        let text = String::from_utf8(bytes).map_err(|_| nonsense())?;
        let (user, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(nonsense)?;
        Ok(Some(Credentials { user: user.to_owned(), password: password.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_as_docker_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        // "a:b:c" and "x" in base 64
        fs::write(
            &path,
            r#"{"auths":{"r.example:5000":{"auth":"YTpiOmM="},"bad":{"auth":"eA=="},"none":{}}}"#,
        )
        .unwrap();
        let known = Credentials::from_file(&path, "r.example:5000").unwrap().unwrap();
        assert_eq!((known.user.as_str(), known.password.as_str()), ("a", "b:c"));
        assert_eq!(format!("{known:?}"), "Credentials(a)");
        assert_eq!(Credentials::from_file(&path, "none").unwrap(), None);
        assert_eq!(Credentials::from_file(&path, "other").unwrap(), None);
        assert!(Credentials::from_file(&path, "bad").is_err());
        assert!(Credentials::from_file(&folder.path().join("absent"), "x").is_err());
    }
}
