//! `weft info`: where weft keeps things on this host, and how. Needs no agent.

use std::path::Path;

use serde_json::json;
use weft_agent::Config;

use crate::cli::Session;
use crate::output::entry;
use crate::place;
use crate::render::image::bytes;
use crate::table::Table;

pub(crate) fn run(session: &Session) -> anyhow::Result<()> {
    let config = Config::load(&place::config())?;
    let store = super::image::store(false)?;
    let usage = store.usage()?;
    let filesystem = filesystem(store.root());
    session.output.show(
        || {
            let mut document = entry("version", env!("CARGO_PKG_VERSION"))?;
            document.extend(entry("state_dir", &config.state_dir)?);
            document.extend(entry("run_dir", &config.run_dir)?);
            let (root, fs) = (store.root(), &filesystem);
            document.extend(entry(
                "storage",
                json!({ "driver": "overlay", "root": root, "filesystem": fs, "usage": usage }),
            )?);
            Ok(document)
        },
        || {
            let mut table = Table::plain();
            let mut row = |key: &str, value: String| table.row([key.to_owned(), value]);
            row("version", env!("CARGO_PKG_VERSION").to_owned());
            row("state", config.state_dir.display().to_string());
            row("run", config.run_dir.display().to_string());
            row("storage driver", "overlay".to_owned());
            row("storage", format!("{}  on {filesystem}", store.root().display()));
            row("images", format!("{}, archives of {}", usage.images, bytes(usage.blob_bytes)));
            row("layers", format!("{}, unpacked {}", usage.layers, bytes(usage.layer_bytes)));
            table.render(session.output)
        },
    )
}

/// What kind of file system a folder lies on (linux/magic.h); by number where it has no name here.
fn filesystem(path: &Path) -> String {
    let Ok(stat) = rustix::fs::statfs(path) else { return "?".to_owned() };
    let name = match stat.f_type {
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x2fc1_2fc1 => "zfs",
        0xf2f5_2010 => "f2fs",
        0x794c_7630 => "overlay",
        other => return format!("{other:#x}"),
    };
    name.to_owned()
}
