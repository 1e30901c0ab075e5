//! Images as text for people and documents for programs.

use serde::Serialize;
use serde_json::{Map, Value, json};
use weft_runtime::image::{Details, Image};

use crate::output::{Output, Tone};
use crate::table::Table;

/// Bytes as people read them.
pub(crate) fn bytes(n: u64) -> String {
    let mut unit = "B";
    let mut tenths = n.saturating_mul(10);
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

/// What a strange text may not do to a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One image in short, for programs.
pub(crate) fn summary(image: &Image) -> Value {
    json!({
        "id": image.id,
        "manifest": image.manifest,
        "names": image.names,
        "created": image.config.created,
        "platform": image.config.platform().to_string(),
        "layers": image.layers.len(),
        "size": image.size(),
    })
}

/// One line for each name of each image.
pub(crate) fn list(output: Output, images: &[Image], in_full: bool) -> String {
    let digest = |d: &weft_runtime::image::Digest| if in_full { d.to_string() } else { d.short() };
    let created = |image: &Image| {
        let text = clean(image.config.created.as_deref().unwrap_or_default());
        if in_full { text } else { text.chars().take(10).collect() }
    };
    let mut table =
        Table::new(["IMAGE", "ID", "MANIFEST", "PLATFORM", "CREATED", "LAYERS", "SIZE"]).right(5).right(6);
    for image in images {
        let names = if image.names.is_empty() { vec!["<none>".to_owned()] } else { image.names.clone() };
        for name in names {
            table.row([
                name,
                digest(&image.id),
                digest(&image.manifest),
                clean(&image.config.platform().to_string()),
                created(image),
                image.layers.len().to_string(),
                bytes(image.size()),
            ]);
        }
    }
    table.render(output)
}

/// One image with all that is known of it, for programs.
pub(crate) fn document(image: &Image, details: &Details) -> Value {
    let mut document = match summary(image) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    document
        .insert("documents".to_owned(), json!({ "manifest": details.manifest, "config": details.config }));
    document.insert("chain".to_owned(), json!(details.layers));
    document.into()
}

/// The same for people.
pub(crate) fn inspect(output: Output, image: &Image, details: &Details) -> String {
    let mut table = Table::plain();
    let mut row = |key: &str, value: String| table.row([key.to_owned(), clean(&value)]);
    row("image", if image.names.is_empty() { "<none>".to_owned() } else { image.names.join(", ") });
    row("id", image.id.to_string());
    row("manifest", image.manifest.to_string());
    row("platform", image.config.platform().to_string());
    row("created", image.config.created.clone().unwrap_or_default());
    row("size", format!("{} in {} layers", bytes(image.size()), image.layers.len()));
    let run = &image.config.config;
    row("entrypoint", words(&run.entrypoint));
    row("command", words(&run.cmd));
    row("user", if run.user.is_empty() { "root".to_owned() } else { run.user.clone() });
    row("folder", if run.working_dir.is_empty() { "/".to_owned() } else { run.working_dir.clone() });
    for variable in &run.env {
        row("environment", variable.clone());
    }
    for port in run.exposed_ports.keys() {
        row("port", port.clone());
    }
    for (key, value) in &run.labels {
        row("label", format!("{key}={value}"));
    }
    let mut text = table.render(output);
    text += &format!("\n{}\n", output.tone(Tone::Heading, "layers, the lowest first"));
    for (at, layer) in details.layers.iter().enumerate() {
        let mut table = Table::plain();
        let mut row = |key: &str, value: String| table.row([format!("  {key}"), clean(&value)]);
        row("archive", format!("{}  {}", layer.blob, bytes(layer.size)));
        row("type", layer.media_type.clone());
        row("diff id", layer.diff_id.to_string());
        row("chain id", layer.chain_id.to_string());
        match &layer.folder {
            Some(folder) => {
                let (entries, size) = (layer.entries.unwrap_or(0), bytes(layer.bytes.unwrap_or(0)));
                row("folder", folder.display().to_string());
                row("unpacked", format!("{size} in {entries} entries"));
            }
            None => row("folder", "not unpacked".to_owned()),
        }
        for (count, what) in
            [(layer.devices_left_out, "device nodes"), (layer.attributes_left_out, "attributes")]
        {
            if let Some(count) = count.filter(|count| *count > 0) {
                row("left out", format!("{count} {what}"));
            }
        }
        text += &format!("{}\n{}", at + 1, table.render(output));
    }
    for (name, document) in [("manifest", &details.manifest), ("configuration", &details.config)] {
        let document = serde_json::to_string_pretty(document).unwrap_or_default();
        text += &format!("\n{}\n{document}\n", output.tone(Tone::Heading, name));
    }
    text
}

fn words(all: &[String]) -> String {
    let quoted =
        |w: &String| if w.is_empty() || w.contains([' ', '"', '\n']) { format!("{w:?}") } else { w.clone() };
    all.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// One step in which an image was made.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    created: Option<String>,
    created_by: String,
    comment: String,
    /// The layer that it made.
    diff_id: Option<weft_runtime::image::Digest>,
    size: Option<u64>,
}

/// The steps, the newest first, each with its layer. Layers that no step speaks of have one of their own.
pub(crate) fn steps(image: &Image) -> Vec<Step> {
    let mut layers = image.layers.iter();
    let mut steps: Vec<Step> = Vec::new();
    for step in &image.config.history {
        let layer = if step.empty_layer { None } else { layers.next() };
        steps.push(Step {
            created: step.created.clone(),
            created_by: step.created_by.clone(),
            comment: step.comment.clone(),
            diff_id: layer.map(|l| l.diff_id),
            size: layer.map(|l| l.blob.size),
        });
    }
    steps.extend(layers.map(|layer| Step {
        created: None,
        created_by: String::new(),
        comment: "the image does not say how".to_owned(),
        diff_id: Some(layer.diff_id),
        size: Some(layer.blob.size),
    }));
    steps.reverse();
    steps
}

pub(crate) fn history(output: Output, steps: &[Step], in_full: bool) -> String {
    const MOST: usize = 60;
    let short = |text: &str, most: usize| {
        let text = clean(text);
        if in_full || text.chars().count() <= most {
            return text;
        }
        text.chars().take(most - 1).chain(['…']).collect()
    };
    let mut table = Table::new(["CREATED", "LAYER", "SIZE", "BY", "REMARK"]).right(2);
    for step in steps {
        let layer = |d: weft_runtime::image::Digest| if in_full { d.to_string() } else { d.short() };
        let created = clean(step.created.as_deref().unwrap_or_default());
        table.row([
            if in_full { created } else { created.chars().take(10).collect() },
            step.diff_id.map(layer).unwrap_or_default(),
            step.size.map(bytes).unwrap_or_default(),
            short(&step.created_by, MOST),
            short(&step.comment, MOST / 2),
        ]);
    }
    match table.render(output) {
        text if text.is_empty() => "the image has no layers and no history\n".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_people_read_them() {
        let shown = [0, 1023, 1024, 1536, 10 << 20, u64::MAX / 32].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "10.0 MiB", "524287.9 TiB"]);
    }

    #[test]
    fn strange_texts_stay_on_their_line() {
        assert_eq!(clean("a\nb\x1b[31mc"), "a b [31mc");
        assert_eq!(words(&["sh".into(), "-c".into(), "a b".into(), String::new()]), "sh -c \"a b\" \"\"");
    }
}
