//! Limits as text.

use weft_model::api::WorkloadStatus;

use crate::output::Output;
use crate::table::Table;

/// One line per workload that is limited, the rates in bits per second.
pub(crate) fn limits<'a>(output: Output, workloads: impl Iterator<Item = &'a WorkloadStatus>) -> String {
    let mut table = Table::new(["WORKLOAD", "NETWORK", "IF", "TO IT", "FROM IT"]).right(3).right(4);
    for workload in workloads {
        let word = |limit: Option<weft_model::Limit>| limit.map(|l| l.to_string()).unwrap_or_default();
        table.row([
            workload.id.container.to_string(),
            workload.id.network.to_string(),
            workload.id.ifname.to_string(),
            word(workload.bandwidth.ingress),
            word(workload.bandwidth.egress),
        ]);
    }
    table.render(output)
}
