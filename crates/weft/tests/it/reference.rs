//! docs/reference.md is what the program says of itself.

use crate::scene::weft;

#[test]
fn the_reference_page_is_up_to_date() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference.md");
    let written = std::fs::read_to_string(page).unwrap_or_default();
    let fresh = weft(&["reference"]).ok().out;
    assert!(written == fresh, "run `weft reference > docs/reference.md`");
    assert!(fresh.contains("### weft network connect") && fresh.contains("| `block_metadata` | `true` |"));
}
