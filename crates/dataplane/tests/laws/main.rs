//! The laws of the core (DESIGN.md, invariants 1 to 4 and 7), on arbitrary worlds and a kernel of plain data.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

mod crash;
mod foreign;
mod order;
mod peers;
mod plan;
mod reach;
mod render;
mod tamper;
mod universe;

use proptest::prelude::*;
use universe::{choice, universe};

proptest! {
    #![proptest_config(reach::cases())]

    #[test]
    fn sync_reaches_what_is_wanted_and_then_rests(u in universe(), choices in prop::collection::vec(choice(), 1..5)) {
        let mut kernel = u.kernel();
        let theirs = foreign::of(&kernel);
        for choice in &choices {
            reach::mended(&mut kernel, &u.wanted(choice))?;
            prop_assert_eq!(&foreign::of(&kernel), &theirs, "foreign objects were touched");
        }
    }

    #[test]
    fn one_sync_is_enough_where_no_interface_name_is_taken(u in universe(), choice in choice()) {
        let mut kernel = u.kernel();
        let wanted = u.wanted(&choice);
        reach::smooth(&mut kernel, &wanted)?;
        reach::reached(&mut kernel, &wanted)?;
    }
}
