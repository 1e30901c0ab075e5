//! Whatever a runtime puts into the plugin's variables: no reader panics, and what is accepted is safe in a path.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;
use weft_cni::Env;

const NAMES: [&str; 5] = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"];

fuzz_target!(|bytes: &[u8]| {
    let values = bytes.split(|b| *b == 0).map(|value| OsString::from_vec(value.to_vec()));
    let env = Env::new(NAMES.into_iter().zip(values));
    let _ = env.command();
    let _ = env.args();
    if let Ok((container, ifname)) = env.target() {
        for name in [container.as_str(), ifname.as_str()] {
            assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
        }
    }
    if let Ok(Some(netns)) = env.netns() {
        assert!(netns.is_absolute() && !netns.to_string_lossy().contains("/../"), "{netns:?}");
    }
});
