//! Which files are installed, and where.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use weft_agent::config;
use weft_model::NetworkName;

use super::manifest::Part;
use super::text;
use super::tree::Content;
use crate::failure::{Failure, USAGE};
use crate::settings;

/// The unit's place.
pub(super) const UNIT: &str = "/etc/systemd/system/weft.service";
/// The unit that starts containers after a boot.
const CONTAINERS: &str = "/etc/systemd/system/weft-containers.service";
/// What starts the unit at boot; the same link that `systemctl enable` makes.
pub(super) const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/weft.service";
// Early in the order: of several .network files that match, networkd takes the first.
const NETWORKD: &str = "/etc/systemd/network/05-weft.network";
const NETWORK_MANAGER: &str = "/etc/NetworkManager/conf.d/weft.conf";

/// A file that shall be there.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(super) path: PathBuf,
    pub(super) part: Part,
    pub(super) content: Content,
    /// A person may edit it: an upgrade keeps the edit.
    pub(super) settings: bool,
    /// A person may have written it before weft came: it is kept, and not ours.
    pub(super) may_be_there: bool,
}

/// Where the node's files go, and which.
#[derive(Debug)]
pub(crate) struct NodePlaces<'a> {
    pub(crate) prefix: &'a Path,
    pub(crate) enable: bool,
}

/// Where the plugin's files go, and what its configuration says.
#[derive(Debug)]
pub(crate) struct CniPlaces<'a> {
    pub(crate) bin: &'a Path,
    pub(crate) conf: &'a Path,
    pub(crate) network: &'a NetworkName,
    pub(crate) socket: Option<&'a Path>,
}

/// The program, its unit and configuration, and what keeps others off weft's links.
///
/// The last are made whether or not networkd and NetworkManager are here: they may come after weft, as in
/// an image that is being built, they would take its links away then, and nothing would say why.
/// Where the programs are absent nobody reads the files, and uninstall removes the directories too.
pub(crate) fn node(places: &NodePlaces<'_>, program: Vec<u8>) -> anyhow::Result<Vec<Wanted>> {
    let path = places.prefix.join("bin/weft");
    check(&path)?;
    // systemd has its own quoting, and '%' and '$' mean something to it.
    let good = |b: &u8| b.is_ascii_alphanumeric() || b"/._+-@".contains(b);
    if !path.as_os_str().as_encoded_bytes().iter().all(good) {
        let message = format!("{} cannot be written in a systemd unit", path.display());
        bail!(Failure::new(message).hint("use letters, digits and /._+-@ in --prefix").code(USAGE));
    }
    let config =
        Wanted { settings: true, may_be_there: true, ..file(config::PATH, Part::Node, settings::file()) };
    let mut files = vec![
        Wanted {
            content: Content::File { bytes: program, mode: 0o755 },
            ..file(&path, Part::Node, String::new())
        },
        config,
        file(NETWORKD, Part::Node, text::NETWORKD.to_owned()),
        file(NETWORK_MANAGER, Part::Node, text::NETWORK_MANAGER.to_owned()),
        file(UNIT, Part::Node, text::unit(&path)),
        file(CONTAINERS, Part::Node, text::containers(&path)),
    ];
    if places.enable {
        files
            .push(Wanted { content: Content::Link(UNIT.into()), ..file(ENABLED, Part::Node, String::new()) });
    }
    Ok(files)
}

/// The plugin, then the configuration that makes runtimes call it.
pub(crate) fn cni(places: &CniPlaces<'_>, plugin: Vec<u8>) -> anyhow::Result<Vec<Wanted>> {
    let (bin, conf) = (places.bin.join("weft"), places.conf.join("10-weft.conflist"));
    check(&bin)?;
    check(&conf)?;
    let list = text::conflist(places.network, places.socket);
    Ok(vec![
        Wanted {
            content: Content::File { bytes: plugin, mode: 0o755 },
            ..file(&bin, Part::Cni, String::new())
        },
        Wanted { settings: true, ..file(&conf, Part::Cni, list) },
    ])
}

fn file(path: impl AsRef<Path>, part: Part, text: String) -> Wanted {
    let content = Content::File { bytes: text.into_bytes(), mode: 0o644 };
    Wanted { path: path.as_ref().to_owned(), part, content, settings: false, may_be_there: false }
}

/// The program to install: this one, unless another file was named (an image for another machine).
pub(crate) fn program(named: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let path = named.unwrap_or(Path::new("/proc/self/exe"));
    std::fs::read(path).with_context(|| format!("failed to read the program {}", path.display()))
}

/// The plugin to install: the file that was named, or `weft-cni` beside this program.
pub(crate) fn plugin(named: Option<&Path>) -> anyhow::Result<Vec<u8>> {
    let beside = || std::env::current_exe().map(|exe| exe.with_file_name("weft-cni"));
    let path = match named {
        Some(path) => path.to_owned(),
        None => beside().context("failed to find out where this program is")?,
    };
    std::fs::read(&path).with_context(|| {
        Failure::new(format!("failed to read the CNI plugin {}", path.display()))
            .hint("name it with --plugin FILE, or do without by --no-cni")
    })
}

fn check(path: &Path) -> anyhow::Result<()> {
    if is_plain(path) {
        return Ok(());
    }
    let message = format!("{} is not an absolute path without '..'", path.display());
    Err(Failure::new(message).code(USAGE).into())
}

/// Absolute, with a name, and without `..`.
pub(super) fn is_plain(path: &Path) -> bool {
    let mut parts = path.components();
    parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|p| matches!(p, Component::Normal(_)))
}
