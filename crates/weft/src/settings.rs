//! The agent's settings as documentation: read from the source of the structure itself, so that the
//! configuration file that `weft install` writes, and the reference page, cannot differ from it.

use serde_json::Value;
use weft_agent::Config;

const SOURCE: &str = include_str!("../../agent/src/config.rs");

/// One key of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) key: &'static str,
    pub(crate) doc: String,
    /// As it is written in TOML; `None` when unset.
    pub(crate) default: Option<String>,
}

/// All keys, in the order of the structure.
pub(crate) fn all() -> Vec<Setting> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let lines = SOURCE.lines().skip_while(|l| !l.starts_with("pub struct Config {")).skip(1);
    let mut doc: Vec<&str> = Vec::new();
    let mut settings = Vec::new();
    for line in lines.take_while(|l| *l != "}").map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push(text.trim());
        } else if let Some((key, _)) = line.strip_prefix("pub ").and_then(|l| l.split_once(':')) {
            // A JSON string, number, boolean or list of these is the same in TOML.
            let default = defaults.get(key).filter(|v| !v.is_null()).map(Value::to_string);
            settings.push(Setting { key, doc: std::mem::take(&mut doc).join(" "), default });
        }
    }
    settings
}

/// The configuration file, with every default in a comment.
pub(crate) fn file() -> String {
    let mut text = "# weft's configuration. Every line is a comment: what it shows is the default.\n\
                    # Unknown keys are refused. `systemctl restart weft` makes a change effective.\n"
        .to_owned();
    for Setting { key, doc, default } in all() {
        let value = default.unwrap_or_else(|| "\"\"".to_owned());
        text += &format!("\n# {doc}\n# {key} = {value}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_there_with_its_documentation() {
        let Value::Object(keys) = serde_json::to_value(Config::default()).unwrap() else { panic!() };
        let settings = all();
        assert_eq!(settings.len(), keys.len());
        for Setting { key, doc, .. } in settings {
            assert!(keys.contains_key(key) && doc.ends_with('.'), "{key}: {doc}");
        }
    }

    #[test]
    fn the_file_is_the_default_and_stays_it_when_uncommented() {
        assert_eq!(Config::parse(&file()).unwrap(), Config::default());
        let uncommented = |line: &str| line.strip_prefix("# ").unwrap_or(line).to_owned();
        let values: Vec<String> =
            file().lines().filter(|l| l.contains(" = ") && !l.contains("\"\"")).map(uncommented).collect();
        assert!(values.len() >= 4);
        assert_eq!(Config::parse(&values.join("\n")).unwrap(), Config::default());
    }
}
