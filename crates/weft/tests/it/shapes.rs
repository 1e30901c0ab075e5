//! `--json`: which keys each document has, and what the agent was asked for it.

use weft_model::Mode;
use weft_model::api::Request;

use crate::canned::{Agent, usual};

#[test]
fn every_document_has_its_keys() {
    let agent = Agent::new(usual);
    for (words, code, expected) in [
        (&["attach", "--pid", "1"][..], 0, &["attached", "id", "netns"][..]),
        (&["attach", "--pid", "1", "--explain"], 0, &["commands"]),
        (&["detach", "blue"], 0, &["detached"]),
        (&["network", "connect", "app", "--pid", "1"], 0, &["attached", "id", "netns"]),
        (&["network", "disconnect", "app", "blue", "--explain"], 0, &["commands"]),
        (&["bandwidth", "ls"], 0, &["workloads"]),
        (&["bandwidth", "set", "blue", "--limit", "1M"], 0, &["bandwidth", "id"]),
        (&["bandwidth", "clear", "blue", "--explain"], 0, &["commands"]),
        (&["network", "create", "app"], 0, &["network"]),
        (&["network", "ls"], 0, &["networks"]),
        (&["network", "inspect", "default"], 0, &["network", "workloads"]),
        (&["network", "inspect", "nil"], 1, &["error"]),
        (&["network", "rm", "app"], 0, &["removed"]),
        (&["diff"], 1, &["agree", "commands"]),
        (&["plan"], 0, &["plan"]),
        (&["inventory"], 0, &["objects", "source"]),
        (&["version"], 0, &["version"]),
        (
            &["status"],
            0,
            &[
                "dataplane",
                "health",
                "networks",
                "node",
                "pid",
                "refused",
                "resident_kib",
                "uptime",
                "version",
                "workloads",
            ],
        ),
    ] {
        let mut all = words.to_vec();
        all.push("--json");
        let (_, keys) = agent.weft(&all).code(code).document();
        assert_eq!(keys, expected, "{words:?}");
    }
}

#[test]
fn attach_asks_for_what_was_typed() {
    let agent = Agent::new(usual);
    agent
        .weft(&[
            "attach",
            "--pid",
            "1",
            "--network",
            "app",
            "--ifname",
            "net0",
            "--peer-name",
            "weft-x",
            "--ip",
            "10.0.0.7",
            "--ip",
            "fd00::7",
            "--mac",
            "02:00:00:00:00:01",
        ])
        .ok();
    let Request::Attach(asked) = agent.asked() else { panic!() };
    assert_eq!(asked.id.to_string(), "app/pid-1/net0");
    assert_eq!(asked.netns.to_str(), Some("/proc/1/ns/net"));
    assert_eq!(asked.ips.len(), 2);
    assert_eq!(asked.host_ifname.unwrap().as_str(), "weft-x");
    assert_eq!(asked.mac.unwrap().to_string(), "02:00:00:00:00:01");
    assert!(!asked.explain);
}

#[test]
fn limits_are_asked_for_as_typed() {
    let agent = Agent::new(usual);
    agent.weft(&["attach", "--pid", "1", "--bandwidth", "100M/-"]).ok();
    let Request::Attach(asked) = agent.asked() else { panic!() };
    assert_eq!(asked.profile.bandwidth.to_string(), "100M/-");

    let run = agent.weft(&["bandwidth", "set", "blue", "--ifname", "eth1", "--limit", "100M:1M/2M"]).ok();
    assert_eq!(run.out, "default/netns-blue/eth1 is limited to 100M:1M/2M\n");
    let Request::SetBandwidth { id, bandwidth, explain } = agent.asked() else { panic!() };
    assert_eq!((id.to_string().as_str(), explain), ("default/netns-blue/eth1", false));
    assert_eq!(bandwidth.to_string(), "100M:1M/2M");

    agent.weft(&["bandwidth", "clear", "--pid", "1"]).ok();
    let Request::SetBandwidth { id, bandwidth, .. } = agent.asked() else { panic!() };
    assert!(bandwidth.is_unlimited() && id.to_string() == "default/pid-1/eth0");

    let run = agent.weft(&["bandwidth", "ls"]).ok();
    assert_eq!(
        run.out,
        "WORKLOAD    NETWORK  IF    TO IT  FROM IT\nnetns-blue  default  eth0   100M        -\n"
    );
}

#[test]
fn ports_and_rates_that_are_none_are_refused_before_anybody_is_asked() {
    let agent = Agent::new(|_| panic!("the agent was asked"));
    for (option, typed, why) in [
        ("-p", "0:80", "'0' is not a port"),
        ("-p", "80:0", "'0' is not a port"),
        ("-p", "65536:80", "'65536' is not a port"),
        ("-p", "1000000000000000000:80", "is not a port"),
        ("-p", "90-80:90-80", "90-80 is turned round"),
        ("-p", "80-90:80", "11 ports of the host cannot lead to 1 ports"),
        ("-p", "80:80/icmp", "'icmp' is not a protocol"),
        ("-p", "host:80:80", "'host' is not an IP address"),
        ("-p", "224.0.0.1:80:80", "cannot be published at 224.0.0.1"),
        ("--bandwidth", "0", "0 would let nothing through"),
        ("--bandwidth", "-/0", "0 would let nothing through"),
        ("--bandwidth", "1000000000000000000", "the highest rate is 1T"),
        ("--bandwidth", "1000000T", "the highest rate is 1T"),
        ("--bandwidth", "1", "the lowest rate is 128k"),
    ] {
        let option = format!("{option}={typed}");
        let run = agent.weft(&["attach", "--pid", "1", &option]).code(2);
        assert!(run.err.contains(why), "{option}: {}", run.err);
        if let Some(limit) = option.strip_prefix("--bandwidth=") {
            let run = agent.weft(&["bandwidth", "set", "blue", &format!("--limit={limit}")]).code(2);
            assert!(run.err.contains(why), "{option}: {}", run.err);
        }
    }
}

#[test]
fn connect_takes_eth1_and_detach_does_not_mind_that_the_namespace_is_gone() {
    let agent = Agent::new(usual);
    agent.weft(&["network", "connect", "app", "--pid", "1", "--name", "web"]).ok();
    let Request::Attach(asked) = agent.asked() else { panic!() };
    assert_eq!(asked.id.to_string(), "app/web/eth1");

    agent.weft(&["detach", "long-gone"]).ok();
    let Request::Detach(asked) = agent.asked() else { panic!() };
    assert_eq!(asked.id.to_string(), "default/netns-long-gone/eth0");
    assert_eq!(asked.netns.unwrap().to_str(), Some("/run/netns/long-gone"));
}

#[test]
fn create_asks_for_what_was_typed() {
    let agent = Agent::new(usual);
    agent.weft(&["network", "create", "app"]).ok();
    let Request::NetworkCreate(asked) = agent.asked() else { panic!() };
    assert!(
        asked.masquerade && asked.subnets.is_empty() && asked.mode == Mode::Routed && asked.mtu.is_none()
    );

    let words =
        ["network", "create", "app", "--subnet", "10.7.0.0/16", "--subnet", "fd07::/64", "--mode", "bridge"];
    agent.weft(&[&words[..], &["--mtu", "1400", "--no-masquerade"]].concat()).ok();
    let Request::NetworkCreate(asked) = agent.asked() else { panic!() };
    assert_eq!(
        (asked.subnets.len(), asked.mode, asked.mtu, asked.masquerade),
        (2, Mode::Bridge, Some(1400), false)
    );
}
