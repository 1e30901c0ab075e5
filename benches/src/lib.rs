//! What the benchmarks' programs share: the floor, by which everything else is measured; two ends of a path; the machine; the document.

pub mod document;
pub mod floor;
pub mod machine;
pub mod pair;
