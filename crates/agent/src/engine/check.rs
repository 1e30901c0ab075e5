//! Comparing an attachment with the kernel, on both sides of its wire (CNI CHECK).

use ipnet::IpNet;
use weft_kernel::{Change, Kernel};
use weft_model::api::{Detach, Error, ErrorKind};

use super::Engine;
use crate::chain;

impl Engine {
    /// What is wrong with an attachment, in words; empty when all is as it should be.
    ///
    /// # Errors
    /// When there is no such attachment, or the kernel cannot be asked.
    pub(crate) fn check(&mut self, request: &Detach) -> Result<Vec<String>, Error> {
        let id = &request.id;
        let Some(planned) = self.plan.workloads.get(id) else {
            return Err(Error::new(ErrorKind::NotFound, format!("{id} is not attached")));
        };
        let mut wanted = weft_dataplane::render_workload(planned);
        wanted.state.loopback = wanted.state.loopback.filter(|loopback| !loopback.ports.is_empty());
        self.fit_loopback(&mut wanted);
        let kernel = |e: &dyn std::error::Error| Error::new(ErrorKind::Kernel, chain(e));
        let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
        let found = self.kernel.read(&keys).map_err(|e| kernel(&e))?;
        // Only what is missing or different concerns this attachment; what is more belongs to others.
        let mut wrong: Vec<String> =
            weft_dataplane::steps(&wanted, &found).iter().filter(|c| !c.is_removal()).map(describe).collect();
        for wire in wanted.wires.values() {
            match weft_kernel::linux::check(&wire.inside) {
                Ok(inside) => wrong.extend(inside),
                Err(cause) => wrong.push(chain(&cause)),
            }
        }
        let here = |a: &&IpNet| !planned.addresses.iter().any(|p| p.addr() == a.addr());
        wrong.extend(
            request
                .expect
                .iter()
                .filter(here)
                .map(|a| format!("the runtime expects {a}, which is not its address")),
        );
        Ok(wrong)
    }
}

fn describe(change: &Change) -> String {
    let command = change.commands().join("; ");
    let object = match change {
        Change::InstallRules(_) => "the rules of its guard or its ports are incomplete",
        Change::CreateWire(..) | Change::CreateBridge(..) => "the host's end is gone",
        Change::SetLink(..) | Change::Finish(..) => "the host's end was changed",
        Change::SetNeighbour(..) => "the host lacks the permanent neighbour",
        Change::SetRoute(..) => "the host lacks the route",
        Change::SetHairpin(..) => "the workload cannot reach itself by a port of the host",
        Change::InstallLoopback | Change::SetLocalPorts(_) => "ports of 127.0.0.1 and ::1 do not lead to it",
        Change::SetShape(..) | Change::SetDetour(..) | Change::CreateIfb(..) => {
            "a limit of bandwidth is not in force"
        }
        Change::SetSysctl(..) | Change::SetLinkSysctl(..) => "a setting was changed",
        _ => "the kernel differs",
    };
    format!("{object}: `{command}` would mend it")
}
