//! Whatever a registry sends as manifest, index or configuration, and whatever somebody types as a name: no reader
//! panics, and what is accepted is within the limits and safe in a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_runtime::image::{Document, ImageConfig, Limits, Platform, Reference};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    if let Ok(Document::Manifest(manifest)) = Document::parse(bytes, &limits) {
        assert!(manifest.layers.len() <= limits.layers && manifest.config.size <= limits.config);
        assert!(manifest.layers.iter().all(|layer| layer.size <= limits.compressed));
    }
    if let Ok(config) = ImageConfig::parse(bytes, &limits) {
        assert!(config.rootfs.diff_ids.len() <= limits.layers);
        let _ = config.platform().to_string();
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        let written = reference.to_string();
        assert_eq!(written.parse::<Reference>().as_ref(), Ok(&reference));
        assert!(!written.contains("..") && !written.starts_with('/') && written.is_ascii());
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>(), Ok(platform));
    }
});
