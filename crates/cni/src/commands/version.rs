//! `VERSION`: tell which versions are spoken (CNI SPEC.md 1.1.0, section 5, "VERSION").

use serde::Serialize;

use crate::conf;
use crate::version::SpecVersion;

#[derive(Serialize)]
struct Versions {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(rename = "supportedVersions")]
    supported: [&'static str; 7],
}

/// The versions as text, in the words of the version asked in, or of the newest where none is to be made
/// out: whoever asks this question may not know any version that we do.
pub(crate) fn version(stdin: &[u8]) -> String {
    let version = conf::version_of(stdin).unwrap_or(SpecVersion::NEWEST).as_str();
    let versions = Versions { version, supported: SpecVersion::ALL.map(SpecVersion::as_str) };
    serde_json::to_string_pretty(&versions).expect("strings always become JSON") + "\n"
}
