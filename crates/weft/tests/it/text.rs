//! What people see: golden text.

use weft_model::api::{Reply, Request};

use crate::canned::{Agent, status, usual};

#[test]
fn status_is_aligned_and_ends_with_health() {
    let run = Agent::new(usual).weft(&["status"]).ok();
    let expected = "\
NODE  VERSION  DATAPLANE  AGENT     UP    MEMORY
knot  0.1.0    nft        pid 4242  1h1m  9.7 MiB

NETWORK  MODE    SUBNETS                      MTU  DEVICE  WORKLOADS  FREE
default  routed  10.89.0.0/24, fd00:89::/64  1500  weft-1          1  252, plenty

WORKLOAD    NETWORK  IF    ADDRESSES  MAC                HOST END    STATE  NAMESPACE
netns-blue  default  eth0  10.89.0.2  02:00:00:00:00:07  weft0a1b2c  ready  /run/netns/blue

REFUSED         PACKETS  BYTES
spoofed source       12   1008

health: ok
";
    assert_eq!(run.out, expected);
}

#[test]
fn status_says_what_is_wrong_line_by_line() {
    let agent = Agent::new(|_| {
        let health = vec!["a: do b".to_owned(), "c: do d".to_owned()];
        Reply::Status(Box::new(weft_model::api::Status { health, ..status() }))
    });
    assert!(agent.weft(&["status"]).ok().out.ends_with("\nhealth: a: do b\nhealth: c: do d\n"));
}

#[test]
fn attach_shows_address_gateway_and_host_end() {
    let run = Agent::new(usual).weft(&["attach", "--pid", "1"]).ok();
    let expected = "\
network    default
container  pid-1
namespace  /proc/1/ns/net
interface  eth0  02:00:00:00:00:07  mtu 1500
address    10.89.0.2/24  gateway 169.254.1.1
host end   weft0a1b2c  02:77:65:66:74:01
";
    assert_eq!(run.out, expected);
}

#[test]
fn inspect_shows_pools_and_names_the_others_when_there_is_none() {
    let agent = Agent::new(usual);
    let run = agent.weft(&["network", "inspect", "default"]).ok();
    assert!(run.out.contains("subnet      10.89.0.0/24  1 used, 2 resting, 253 usable\n"), "{run:?}");
    assert!(run.out.contains("\n\nWORKLOAD"), "{run:?}");
    let run = agent.weft(&["network", "inspect", "nil"]).code(1);
    assert_eq!(run.err, "weft: there is no network 'nil'\nhint: there are: default\n");
}

#[test]
fn a_pipe_gets_no_colour_and_no_trailing_blanks() {
    let agent = Agent::new(|request| match request {
        Request::NetworkList => Reply::Networks(Vec::new()),
        other => usual(other),
    });
    for words in [&["status"][..], &["network", "ls"], &["inventory"]] {
        let run = agent.weft(words).ok();
        assert!(!run.out.contains('\x1b') && !run.out.lines().any(|l| l.ends_with(' ')), "{run:?}");
    }
}

#[test]
fn the_agent_refuses_a_configuration_that_it_does_not_understand() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "state_dirr = \"/x\"\n").unwrap();
    let run = crate::scene::weft(&["agent", "--config", &file.display().to_string()]).code(1);
    assert!(run.err.starts_with("weft: the agent has no configuration: the configuration "), "{run:?}");
    assert!(run.err.contains("state_dirr") && run.err.contains("\nhint: "), "{run:?}");
}
