//! plan

pub mod address;
