//! OCI layouts that others write: an index within the index, images for several platforms, names in other places.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use weft_runtime::image::{ArchiveError, Digest, Platform, Quiet, load_folder, save_folder};

use crate::pack::Pack;
use crate::store::{Place, image, load};

/// Writes a blob of a layout and gives its descriptor.
fn blob(layout: &Path, kind: &str, document: &Value) -> Value {
    let text = document.to_string();
    let digest = Digest::of(text.as_bytes());
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &text).unwrap();
    json!({ "mediaType": kind, "digest": digest, "size": text.len() })
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn an_index_within_the_index() {
    let place = Place::new();
    let store = place.store();
    let layout = tempfile::tempdir().unwrap();
    let layout = layout.path().join("layout");
    // Two images of one layout: what differs is what the index says of them.
    let mut entries = Vec::new();
    let mut images = Vec::new();
    for (content, platform) in [("a", "linux/amd64"), ("b", "linux/arm64")] {
        let layer = Pack::default().file(content, b"x").done();
        images.push(load(&store, &image(&format!("{content}:1"), &[layer])).unwrap().remove(0));
        let platform: Platform = platform.parse().unwrap();
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": images.last().unwrap().manifest,
            "size": 0,
            "platform": platform,
        }));
    }
    save_folder(&store, &images, &layout, &Quiet).unwrap();
    for entry in &mut entries {
        let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let size = fs::metadata(layout.join("blobs/sha256").join(digest.hex())).unwrap().len();
        entry["size"] = size.into();
    }
    let inner = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let mut outer = blob(&layout, INDEX, &inner);
    // As Docker writes it: the full name in one annotation, the tag alone in the other.
    outer["annotations"] =
        json!({ "io.containerd.image.name": "r.example/app:7", "org.opencontainers.image.ref.name": "7" });
    let top = json!({ "schemaVersion": 2, "manifests": [outer] });
    fs::write(layout.join("index.json"), top.to_string()).unwrap();
    for (platform, expected) in [("linux/amd64", &images[0]), ("linux/arm64", &images[1])] {
        let to = Place::new();
        let platform: Platform = platform.parse().unwrap();
        let loaded = load_folder(&to.store(), &layout, None, Some(&platform), &Quiet).unwrap().remove(0);
        assert_eq!((loaded.id, loaded.names), (expected.id, vec!["r.example/app:7".to_owned()]));
    }
    let none: Platform = "linux/riscv64".parse().unwrap();
    let refused = load_folder(&Place::new().store(), &layout, None, Some(&none), &Quiet).unwrap_err();
    assert!(matches!(refused, ArchiveError::Platform { .. }), "{refused}");
}
