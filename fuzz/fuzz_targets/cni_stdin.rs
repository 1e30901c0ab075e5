//! Whatever a runtime writes to the plugin's stdin: no reader panics, and a configuration that is
//! accepted keeps its earlier result through printing and reading.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_cni::{CniResult, Command, Conf, Essentials, GcConf, SpecVersion};

fuzz_target!(|text: &[u8]| {
    let _ = Essentials::parse(text);
    let _ = GcConf::parse(text);
    let _ = Conf::parse(text, Command::Check);
    if let Ok(conf) = Conf::parse(text, Command::Add) {
        let _ = conf.resolvers();
        if let Some(previous) = conf.previous {
            let printed = previous.render(SpecVersion::NEWEST);
            let value = serde_json::from_str(&printed).expect("results are printed as JSON");
            assert_eq!(CniResult::parse(&value).as_ref(), Ok(&previous), "{printed}");
            for version in SpecVersion::ALL {
                let _ = previous.render(version);
            }
        }
    }
});
