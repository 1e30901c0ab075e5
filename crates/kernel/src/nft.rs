//! (being written)
use std::collections::BTreeMap;
/// x
pub type Tables = BTreeMap<String, String>;
/// x
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op;
impl std::fmt::Display for Op {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// x
pub struct Diff {
    /// x
    pub install: Vec<Op>,
    /// x
    pub remove: Vec<Op>,
}
/// x
pub fn apply(_: &mut crate::netlink::Socket, _: &[Op]) -> Result<(), Error> {
    Ok(())
}
/// x
pub fn read(_: &mut crate::netlink::Socket, _: &[String]) -> Result<Tables, Error> {
    Ok(Tables::default())
}
/// x
pub fn diff(_: &Tables, _: &Tables) -> Diff {
    Diff { install: vec![], remove: vec![] }
}
/// x
pub fn our_tables() -> Vec<String> {
    vec![]
}
/// x
pub fn simulate(_: &mut Tables, _: &[Op]) -> Result<(), Error> {
    Ok(())
}
