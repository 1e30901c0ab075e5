//! Names of entries; what is written is tested with whole calls.

use weft_model::AttachmentId;

fn id(network: &str, container: &str, ifname: &str) -> AttachmentId {
    AttachmentId {
        network: network.parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: ifname.parse().unwrap(),
    }
}

#[test]
fn a_name_can_be_taken_apart_again() {
    let name = id("app", "abc", "a@b").journal_entry();
    assert_eq!(name, "app@abc@a@b.json");
    let parts: Vec<_> = name.strip_suffix(".json").unwrap().splitn(3, '@').collect();
    assert_eq!(parts, ["app", "abc", "a@b"]);
}

#[test]
fn the_longest_name_fits_a_file_system() {
    let longest = id(&"n".repeat(63), &"c".repeat(128), &"i".repeat(15)).journal_entry();
    assert_eq!(longest.len(), 213);
    assert!(format!(".{longest}.{}", u32::MAX).len() <= 255);
}
