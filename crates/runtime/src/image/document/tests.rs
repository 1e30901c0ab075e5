//! Documents as registries and programs write them, and as somebody hostile would.

use serde_json::{Value, json};

use super::*;

fn digest() -> String {
    Digest::of(b"x").to_string()
}

fn manifest() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media::DOCKER_MANIFEST,
        "config": { "mediaType": media::DOCKER_CONFIG, "digest": digest(), "size": 7 },
        "layers": [{ "mediaType": media::LAYER, "digest": digest(), "size": 9, "urls": null }],
    })
}

fn parse(document: &Value) -> Result<Document, DocumentError> {
    Document::parse(document.to_string().as_bytes(), &Limits::default())
}

#[test]
fn a_manifest_and_an_index() {
    let Document::Manifest(read) = parse(&manifest()).unwrap() else { panic!("not a manifest") };
    assert_eq!((read.config.size, read.layers.len()), (7, 1));
    let index = json!({ "schemaVersion": 2, "manifests": [
        { "mediaType": media::MANIFEST, "digest": digest(), "size": 1,
          "platform": { "architecture": "arm", "os": "linux", "variant": "v7" } }
    ]});
    let Document::Index(read) = parse(&index).unwrap() else { panic!("not an index") };
    assert_eq!(read.manifests[0].platform.as_ref().unwrap().to_string(), "linux/arm/v7");
}

#[test]
fn what_is_refused_says_why() {
    let with = |key: &str, value: Value| {
        let mut document = manifest();
        document[key] = value;
        format!("{:?}", parse(&document).unwrap_err())
    };
    assert!(with("manifests", json!([])).contains("as well as"));
    assert!(with("mediaType", media::INDEX.into()).contains("is not"));
    assert!(with("schemaVersion", 1.into()).contains("schema 1"));
    assert!(with("schemaVersion", Value::Null).contains("not 2"));
    let artifact = json!({ "mediaType": "application/vnd.wasm", "digest": digest(), "size": 7 });
    assert!(with("config", artifact).contains("not of an image"));
    let large = json!({ "mediaType": media::CONFIG, "digest": digest(), "size": 1u64 << 40 });
    assert!(with("config", large).contains("bytes"));
    let layer = |size: i64, kind: &str| json!([{ "mediaType": kind, "digest": digest(), "size": size }]);
    assert!(with("layers", layer(-1, media::LAYER)).contains("Parse"));
    assert!(with("layers", layer(i64::MAX, media::LAYER)).contains("bytes"));
    assert!(
        with("layers", layer(1, "application/vnd.oci.image.layer.v1.tar+encrypted")).contains("encrypted")
    );
    let many: Vec<Value> = vec![layer(1, media::LAYER)[0].clone(); 501];
    assert!(with("layers", many.into()).contains("501 layers"));
    let forged = json!([{ "mediaType": media::LAYER, "digest": "sha256:../../etc/passwd", "size": 1 }]);
    assert!(with("layers", forged).contains("not a digest"));
    let long = vec![b' '; (4 << 20) + 1];
    assert!(matches!(Document::parse(&long, &Limits::default()), Err(DocumentError::Long { .. })));
}

#[test]
fn dockers_nulls_are_absent() {
    let text = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": null, "Cmd": null, "Entrypoint": null, "Labels": null, "Volumes": null,
                    "ExposedPorts": null, "User": null, "WorkingDir": null, "OnBuild": null },
        "rootfs": { "type": "layers", "diff_ids": null },
        "history": null, "container_config": {},
    });
    let config = ImageConfig::parse(text.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(config.config, Execution::default());
    assert!(config.rootfs.diff_ids.is_empty() && config.history.is_empty());
}

#[test]
fn a_configuration_belongs_to_its_manifest() {
    let text = json!({ "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(), digest()] } });
    let config = ImageConfig::parse(text.to_string().as_bytes(), &Limits::default()).unwrap();
    let Document::Manifest(manifest) = parse(&manifest()).unwrap() else { panic!("not a manifest") };
    let refused = config.belongs_to(&manifest).unwrap_err().to_string();
    assert!(refused.contains("2 layers and the manifest 1"), "{refused}");
    for (key, value) in [("os", json!("windows")), ("rootfs", json!({ "type": "x", "diff_ids": [] }))] {
        let mut other = text.clone();
        other[key] = value;
        assert!(ImageConfig::parse(other.to_string().as_bytes(), &Limits::default()).is_err(), "{key}");
    }
}
