//! What the benchmarks' programs share: the floor, by which everything else is measured.

pub mod floor;
