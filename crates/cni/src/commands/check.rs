//! `CHECK`: compare what is with what `ADD` has said (CNI SPEC.md 1.1.0, section 2, "CHECK").

use weft_model::AttachmentId;
use weft_model::api::{Detach, Reply, Request};

use super::Call;
use crate::conf::{Conf, ConfError};
use crate::env::{Command, EnvError};
use crate::error::Failure;
use crate::ipam::Ipam;

/// Compares; everything found wrong is in the failure.
pub(crate) fn check(call: &Call<'_>) -> Result<(), Failure> {
    let (container, ifname) = call.env.target()?;
    let netns = call.env.netns()?.ok_or(EnvError::Missing { command: "CHECK", names: vec!["CNI_NETNS"] })?;
    let conf = Conf::parse(call.stdin, Command::Check)?;
    if conf.disable_check {
        return Ok(());
    }
    let previous = conf.previous.as_ref().ok_or(ConfError::NoPrevious)?;
    let id = AttachmentId { network: conf.essentials.network.clone(), container, ifname };
    let Some(expect) = previous.addresses_of(id.ifname.as_str(), &netns.to_string_lossy()) else {
        let problem = format!("the result of ADD lists no interface {} inside the container", id.ifname);
        return Err(Failure::Check { attachment: id.to_string(), problems: vec![problem] });
    };
    let detach = Detach { id, netns: Some(netns), expect, explain: false };
    match call.ask(&conf.essentials, &Request::Check(detach.clone()))? {
        Reply::Checked(problems) if problems.is_empty() => {}
        Reply::Checked(problems) => {
            return Err(Failure::Check { attachment: detach.id.to_string(), problems });
        }
        _ => return Err(call.unexpected()),
    }
    if let Some(ipam) = Ipam::find(conf.essentials.ipam.as_deref(), call.env, call.stdin, call.host)? {
        ipam.call(Command::Check)?;
    }
    Ok(())
}
