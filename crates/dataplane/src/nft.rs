//! (being written)
use weft_kernel::nft::Tables;
/// x
pub fn ruleset(_: &weft_plan::Plan) -> Tables {
    Tables::default()
}
/// x
pub fn declarations() -> Tables {
    Tables::default()
}
/// x
pub fn guard(_: &weft_plan::WorkloadPlan, _: &mut Tables) {}
