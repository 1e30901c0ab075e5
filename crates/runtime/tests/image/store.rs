//! The store: shared layers, locks, leases, what is removed and what is not, and what a kill leaves behind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::thread;

use serde_json::json;
use tempfile::TempDir;
use weft_runtime::image::{
    ArchiveError, Digest, Format, Image, Limits, Policy, Quiet, Reference, Store, StoreError, load_archive,
    load_folder, save_archive, save_folder,
};

use crate::pack::Pack;

/// linux/sched.h
const CLONE_NEWNS: i32 = 0x0002_0000;

/// An archive of `docker save` with one image of these layers.
pub(crate) fn image(name: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    image_claiming(name, layers, &diff_ids)
}

fn image_claiming(name: &str, layers: &[Vec<u8>], diff_ids: &[Digest]) -> Vec<u8> {
    let config = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux",
        "config": { "Cmd": ["/bin/true"], "Env": null },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [],
    })
    .to_string();
    let files: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": files }]).to_string();
    let pack = Pack::default().file("config.json", config.as_bytes());
    let pack = files.iter().zip(layers).fold(pack, |pack, (file, layer)| pack.file(file, layer));
    pack.file("manifest.json", manifest.as_bytes()).done()
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    Pack::default().folder("./").file(name, content).done()
}

pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.folder.path()).unwrap()
    }

    fn container(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join("containers").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let path = self.folder.path().join("images").join(folder);
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn counts(&self) -> (usize, usize) {
        (self.names("blobs/sha256").len(), self.names("layers").len())
    }
}

pub(crate) fn load(store: &Store, archive: &[u8]) -> Result<Vec<Image>, ArchiveError> {
    load_archive(store, archive, None, None, None, &Quiet)
}

fn one(store: &Store, archive: &[u8]) -> Image {
    load(store, archive).unwrap().remove(0)
}

#[test]
fn layers_are_shared_and_go_with_their_last_image() {
    let place = Place::new();
    let store = place.store();
    let base = layer("base", b"base");
    let first = one(&store, &image("first:1", &[base.clone(), layer("a", b"a")]));
    let second = one(&store, &image("second:1", &[base, layer("b", b"b")]));
    assert_eq!(first.layers[0].chain_id, second.layers[0].chain_id);
    // Two configurations, two manifests, three archives; three layers.
    assert_eq!(place.counts(), (7, 3));
    let gone = store.remove("first:1", false).unwrap();
    assert_eq!((gone.images, gone.layers.len(), gone.blobs.len()), (vec!["first:1".to_owned()], 1, 3));
    assert_eq!(place.counts(), (4, 2));
    assert!(matches!(store.find("first:1"), Err(StoreError::NoImage(_))));
    assert_eq!(store.find("second").unwrap_err().to_string(), "there is no image 'second' here");
    assert_eq!(store.find(&second.id.hex()[..6]).unwrap().names, ["second:1"]);
    store.remove(&second.id.to_string(), false).unwrap();
    assert_eq!(place.counts(), (0, 0));
    assert_eq!(place.names("ingest"), [""; 0]);
}

#[test]
fn a_name_moves_and_the_older_image_stays_until_it_is_pruned() {
    let place = Place::new();
    let store = place.store();
    let old = one(&store, &image("app:1", &[layer("a", b"old")]));
    let new = one(&store, &image("app:1", &[layer("a", b"new")]));
    let (images, broken) = store.images().unwrap();
    assert!(broken.is_empty());
    let shown: Vec<_> = images.iter().map(|i| (i.id, i.names.clone())).collect();
    assert_eq!(shown, [(new.id, vec!["app:1".to_owned()]), (old.id, vec![])]);
    let pruned = store.prune(false).unwrap();
    assert_eq!((pruned.images, pruned.layers.len()), (vec![old.manifest.to_string()], 1));
    assert_eq!(store.prune(true).unwrap().images, ["app:1"]);
    assert_eq!(place.counts(), (0, 0));
}

#[test]
fn a_container_holds_its_image() {
    let place = Place::new();
    let store = place.store();
    let loaded = one(&store, &image("app:1", &[layer("a", b"a"), layer("b", b"b")]));
    let container = place.container("c1");
    let rootfs = store.prepare(&loaded, &container).unwrap();
    assert_eq!(rootfs.lowerdirs.len(), 2);
    assert!(rootfs.lowerdirs[0].join("b").exists() && rootfs.lowerdirs[1].join("a").exists());
    let refused = store.remove("app:1", false).unwrap_err();
    assert_eq!(refused.to_string(), "the image 'app:1' is used by container c1");
    assert!(store.prune(true).unwrap().images.is_empty());
    // By force only the names go; what the container stands on stays.
    store.remove("app:1", true).unwrap();
    assert_eq!(place.counts(), (4, 2));
    store.release(&container).unwrap();
    store.release(&container).unwrap();
    assert_eq!(store.prune(false).unwrap().layers.len(), 2);
    // A lease ends with the container's folder, whoever removed it.
    let again = one(&store, &image("app:1", &[layer("a", b"a")]));
    store.prepare(&again, &container).unwrap();
    fs::remove_dir_all(&container).unwrap();
    store.remove("app:1", false).unwrap();
    assert_eq!((place.counts(), place.names("leases").len()), ((0, 0), 0));
}

#[test]
fn a_root_file_system_shows_all_layers_as_one() {
    let place = Place::new();
    let store = place.store();
    let lowest = Pack::default()
        .mode(0o711)
        .folder("./")
        .mode(0o644)
        .file("a", b"low")
        .file("gone", b"x")
        .folder("dir/")
        .file("dir/old", b"x")
        .done();
    let top = Pack::default()
        .file("a", b"top")
        .file(".wh.gone", b"")
        .file("dir/.wh..wh..opq", b"")
        .file("dir/new", b"x")
        .done();
    let loaded = one(&store, &image("app:1", &[lowest, top]));
    for volatile in [false, true] {
        let container = place.container(&format!("c-{volatile}"));
        // In a thread with mounts of its own, which vanish with it.
        thread::scope(|scope| {
            let mounted = scope.spawn(|| {
                weft_kernel::netns::unshare(CLONE_NEWNS).unwrap();
                let private =
                    rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).unwrap();
                let rootfs = store.mount(&loaded, &container, volatile).unwrap();
                let read = |path: &str| fs::read_to_string(rootfs.merged.join(path)).ok();
                assert_eq!((read("a").as_deref(), read("gone")), (Some("top"), None));
                assert_eq!((read("dir/old"), read("dir/new").as_deref()), (None, Some("x")));
                assert_eq!(fs::metadata(&rootfs.merged).unwrap().permissions().mode() & 0o777, 0o711);
                fs::write(rootfs.merged.join("written"), "x").unwrap();
                assert!(rootfs.upperdir.join("written").exists());
                let open = fs::File::open(rootfs.merged.join("a")).unwrap();
                let busy = rootfs.detach(false).unwrap_err().to_string();
                assert!(busy.contains("failed to unmount the root file system"), "{busy}");
                drop(open);
                rootfs.detach(false).unwrap();
                rootfs.detach(false).unwrap();
            });
            mounted.join().unwrap();
        });
    }
}

#[test]
fn what_lies_leaves_nothing() {
    let place = Place::new();
    let store = place.store();
    let sound = layer("a", b"a");
    let wrong = image_claiming("app:1", std::slice::from_ref(&sound), &[Digest::of(b"other")]);
    let hostile = image("app:1", &[Pack::default().file("../../../canary", b"x").done()]);
    let cut = image("app:1", &[sound[..600].to_vec()]);
    let long = image("app:1", &[layer("a", &[0; 5000])]);
    let limits = Limits { file: 4000, ..Limits::default() };
    let narrow = Store::with(place.folder.path(), Policy { limits, devices: false }).unwrap();
    for (store, archive, why) in [
        (&store, wrong, "but the image names sha256:"),
        (&store, hostile, "'..'"),
        (&store, cut, "truncated"),
        (&narrow, long, "bytes in one file"),
    ] {
        let error = format!("{:#}", anyhow_chain(&load(store, &archive).unwrap_err()));
        assert!(error.contains(why), "{error}");
        store.prune(false).unwrap();
        assert_eq!((place.counts(), place.names("ingest").len()), ((0, 0), 0), "{why}");
    }
    assert!(!place.folder.path().join("canary").exists());
    let nothing = load(&store, &Pack::default().file("x", b"").done()).unwrap_err();
    assert!(matches!(nothing, ArchiveError::NoImage));
}

fn anyhow_chain(error: &dyn std::error::Error) -> String {
    let next = error.source().map(|source| format!(": {}", anyhow_chain(source)));
    format!("{error}{}", next.unwrap_or_default())
}

#[test]
fn what_goes_out_comes_in_the_same() {
    let (from, to) = (Place::new(), Place::new());
    let store = from.store();
    let packed = zstd::encode_all(&layer("a", b"a")[..], 3).unwrap();
    let archive = image_claiming(
        "app:1",
        &[packed, layer("b", b"b")],
        &[Digest::of(&layer("a", b"a")), Digest::of(&layer("b", b"b"))],
    );
    let loaded = one(&store, &archive);
    assert!(loaded.layers[0].blob.media_type.ends_with("+zstd"));
    for format in [Format::Docker, Format::Oci] {
        let mut saved = Vec::new();
        save_archive(&store, std::slice::from_ref(&loaded), format, &mut saved, &Quiet).unwrap();
        let mut again = Vec::new();
        save_archive(&store, std::slice::from_ref(&loaded), format, &mut again, &Quiet).unwrap();
        assert!(saved == again, "the same bytes every time");
        // Also compressed as a whole.
        let back = one(&to.store(), &zstd::encode_all(&saved[..], 1).unwrap());
        assert_eq!((back.manifest, &back.names), (loaded.manifest, &loaded.names));
        to.store().remove("app:1", false).unwrap();
    }
    let layout = from.folder.path().join("layout");
    save_folder(&store, std::slice::from_ref(&loaded), &layout, &Quiet).unwrap();
    let name: Reference = "other:2".parse().unwrap();
    let back = load_folder(&to.store(), &layout, Some(&name), None, &Quiet).unwrap().remove(0);
    assert_eq!((back.manifest, back.names), (loaded.manifest, vec!["other:2".to_owned()]));
    // The store's own folder is such a layout too.
    to.store().remove("other:2", false).unwrap();
    let back = load_folder(&to.store(), store.root(), None, None, &Quiet).unwrap().remove(0);
    assert_eq!(back.manifest, loaded.manifest);
    // A damaged blob does not go out, and does not come in.
    let blob = layout.join("blobs/sha256").join(loaded.layers[1].blob.digest.hex());
    let mut bytes = fs::read(&blob).unwrap();
    bytes[700] ^= 1;
    fs::write(&blob, &bytes).unwrap();
    to.store().prune(true).unwrap();
    let refused = load_folder(&to.store(), &layout, None, None, &Quiet).unwrap_err();
    assert!(matches!(refused, ArchiveError::WrongDigest { .. }), "{refused}");
    let stored = store.root().join("blobs/sha256").join(loaded.layers[1].blob.digest.hex());
    fs::write(stored, &bytes).unwrap();
    let refused = save_archive(&store, &[loaded], Format::Docker, Vec::new(), &Quiet).unwrap_err();
    assert!(refused.to_string().contains("is not what its name says"), "{refused}");
}

#[test]
fn links_in_a_layout_lead_nowhere() {
    let place = Place::new();
    let layout = tempfile::tempdir().unwrap();
    fs::write(layout.path().join("oci-layout"), "{}").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", layout.path().join("index.json")).unwrap();
    let refused = load_folder(&place.store(), layout.path(), None, None, &Quiet).unwrap_err();
    assert!(matches!(refused, ArchiveError::Io { .. }), "{refused}");
}

#[test]
fn several_at_once_do_the_work_once() {
    let place = Place::new();
    let archive = image("app:1", &[layer("a", &[7; 200_000]), layer("b", b"b")]);
    let inodes: Vec<u64> = thread::scope(|scope| {
        let load = || {
            let store = place.store();
            let loaded = one(&store, &archive);
            let folder = store.root().join("layers").join(loaded.layers[0].chain_id.hex());
            fs::metadata(folder.join("diff/a")).unwrap().ino()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(inodes.windows(2).all(|pair| pair[0] == pair[1]), "unpacked more than once: {inodes:?}");
    assert_eq!((place.counts(), place.names("ingest").len()), ((4, 2), 0));
}

#[test]
fn what_a_killed_process_left_is_swept() {
    let place = Place::new();
    place.store();
    let ingest = place.folder.path().join("images/ingest");
    fs::create_dir_all(ingest.join("layer-00.tree/diff/deep")).unwrap();
    fs::write(ingest.join("layer-00.lock"), "").unwrap();
    fs::create_dir_all(ingest.join("gone-11.tree/diff")).unwrap();
    fs::write(ingest.join("blob-22.part"), "half").unwrap();
    place.store();
    assert_eq!(place.names("ingest"), ["blob-22.part"], "half a download may be taken up again");
    assert_eq!(place.store().prune(false).unwrap().bytes, 4);
    assert_eq!(place.names("ingest"), [""; 0]);
}

#[test]
fn a_layer_that_somebody_removed_is_unpacked_again() {
    let place = Place::new();
    let store = place.store();
    let loaded = one(&store, &image("app:1", &[layer("a", b"a")]));
    fs::remove_dir_all(store.root().join("layers").join(loaded.layers[0].chain_id.hex())).unwrap();
    let rootfs = store.prepare(&loaded, &place.container("c1")).unwrap();
    assert!(rootfs.lowerdirs[0].join("a").exists());
}

#[test]
fn folders_that_cannot_be_trusted() {
    let place = Place::new();
    let images = place.folder.path().join("images");
    std::os::unix::fs::symlink("/tmp", &images).unwrap();
    assert!(matches!(
        Store::open(place.folder.path()),
        Err(StoreError::Unsafe { .. } | StoreError::Io { .. })
    ));
    fs::remove_file(&images).unwrap();
    fs::create_dir(&images).unwrap();
    fs::set_permissions(&images, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = Store::open(place.folder.path()).unwrap_err().to_string();
    assert!(refused.contains("others have access"), "{refused}");
}
