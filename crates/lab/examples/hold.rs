use weft_lab::*;
use weft_model::api::NetworkSpec;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let underlay = Underlay::new(1400)?;
    let mut host = Host::new(&underlay, std::path::Path::new(&std::env::var("WEFT_PROGRAM")?))?;
    host.start_agent()?;
    let mode = if std::env::args().nth(1).as_deref() == Some("bridge") { weft_model::Mode::Bridge } else { weft_model::Mode::Routed };
    let net: weft_model::NetworkName = "n".parse()?;
    host.create_network(NetworkSpec { name: net.clone(), subnets: vec!["10.101.1.0/24".parse()?, "fd10:101:1::/64".parse()?], mode, mtu: None, masquerade: true, explain: false })?;
    let (a, b) = (Namespace::new()?, Namespace::new()?);
    a.attach(&host, &net)?; b.attach(&host, &net)?;
    let script = std::env::args().nth(2).unwrap();
    let fd = |n: &weft_kernel::netns::Netns| { use std::os::fd::*; format!("/proc/{}/fd/{}", std::process::id(), n.as_fd().as_raw_fd()) };
    let s = std::process::Command::new("bash").arg("-c").arg(script)
        .env("H", fd(host.netns())).env("A", fd(a.netns())).env("B", fd(b.netns())).env("U", fd(underlay.netns())).env("SOCK", host.socket()).status()?;
    println!("{s}");
    Ok(())
}
