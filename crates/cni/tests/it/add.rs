//! `ADD`: what the agent is asked for, and what the runtime gets.

use serde_json::json;
use weft_model::PodIdentity;
use weft_model::api::{Attach, ErrorKind, Request};

use crate::agent::{Agent, Answer, attached, done};
use crate::golden;
use crate::scene::{NETNS, Scene};

fn attach(agent: &Agent) -> Attach {
    match agent.asked() {
        Request::Attach(attach) => *attach,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_version_gets_its_own_form() {
    let scene = Scene::new();
    let agent = scene.agent();
    let dns = json!({"nameservers": ["10.88.0.1"], "domain": "shop.local", "search": ["local"], "options": ["ndots:2"]});
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        agent.replies(attached(true));
        let outcome = scene.call("ADD", &scene.conf(json!({"cniVersion": version, "dns": dns})));
        assert!(outcome.success, "{outcome:?}");
        golden::same(&format!("add-{version}.json"), &outcome.stdout);
    }
    for unnamed in [json!("-remove-"), json!(""), json!(null)] {
        agent.replies(attached(true));
        let outcome = scene.call("ADD", &scene.conf(json!({"cniVersion": unnamed, "dns": dns})));
        golden::same("add-0.2.0.json", &outcome.stdout);
    }
}

#[test]
fn without_a_bridge_the_containers_end_is_the_second() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(attached(false));
    let json = scene.call("ADD", &scene.conf(json!({}))).json();
    assert_eq!(json["interfaces"][1]["name"], "eth0");
    assert_eq!(json["interfaces"][1]["sandbox"], NETNS);
    assert_eq!(json["interfaces"][0].get("sandbox"), None);
    assert_eq!(json["ips"][0]["interface"], 1);
    assert_eq!(json.get("dns"), None);
}

#[test]
fn the_agent_is_asked_for_what_the_runtime_wants() {
    let mut scene = Scene::new();
    let agent = scene.agent();
    agent.replies(attached(false));
    scene.set("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;IP=10.88.0.9;X=y");
    let conf = scene.conf(json!({
        "capabilities": {"ips": true, "mac": true, "ipRanges": true, "portMappings": true, "bandwidth": true},
        "runtimeConfig": {
            "ips": ["10.88.0.7/16", "fd00:88::7"], "mac": "02:42:0a:58:00:07",
            "ipRanges": [[{"Subnet": "10.88.0.0/16", "RangeStart": "10.88.1.0", "RangeEnd": "10.88.1.9", "Gateway": ""}]],
            "portMappings": [
                {"HostPort": 8080, "ContainerPort": 80, "Protocol": "", "HostIP": ""},
                {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "192.0.2.1"},
                {"hostPort": 9000, "containerPort": 90, "protocol": "sctp", "hostIP": "::", "range": 3}
            ],
            "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 2_147_483_647, "egressRate": 0, "egressBurst": 0}
        },
        "args": {"cni": {"ips": ["10.88.0.7"], "labels": [{"key": "a", "value": "b"}]}, "other": 1},
        "cni.dev/new-key": {"a": 1}
    }));
    assert!(scene.call("ADD", &conf).success);
    let attach = attach(&agent);
    assert_eq!(attach.id.to_string(), "app/abc/eth0");
    assert_eq!(attach.netns.to_str(), Some(NETNS));
    let ips: Vec<_> = attach.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.88.0.7", "fd00:88::7", "10.88.0.9"]);
    assert_eq!(attach.ranges[0][0].start, Some("10.88.1.0".parse().unwrap()));
    assert_eq!(attach.ranges[0][0].gateway, None);
    assert_eq!(attach.mac.unwrap().to_string(), "02:42:0a:58:00:07");
    let pod = PodIdentity { namespace: "shop".into(), name: "web-0".into(), uid: String::new() };
    assert_eq!(attach.pod, Some(pod));
    let ports: Vec<_> = attach.profile.ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["8080:80/tcp", "192.0.2.1:53:5353/udp", "[::]:9000-9002:90-92/sctp"]);
    assert_eq!(attach.profile.bandwidth.to_string(), "8M/-");
    assert!(attach.assigned.is_empty() && !attach.explain && attach.host_ifname.is_none());
}

#[test]
fn the_runtimes_mac_precedes_that_of_the_variables() {
    let mut scene = Scene::new();
    let agent = scene.agent();
    scene.set("CNI_ARGS", "MAC=02:00:00:00:00:03");
    for (runtime, args, wanted) in [
        ("02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:01"),
        ("", "02:00:00:00:00:02", "02:00:00:00:00:02"),
        ("", "", "02:00:00:00:00:03"),
    ] {
        agent.replies(attached(false));
        let conf = scene.conf(json!({"runtimeConfig": {"mac": runtime}, "args": {"cni": {"mac": args}}}));
        assert!(scene.call("ADD", &conf).success);
        assert_eq!(attach(&agent).mac.unwrap().to_string(), wanted);
    }
}

#[test]
fn the_default_network_needs_no_mention() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(attached(false));
    assert!(scene.call("ADD", &scene.conf(json!({"network": "-remove-", "ipam": {}}))).success);
    assert_eq!(attach(&agent).id.network.as_str(), "default");
}

#[test]
fn resolvers_are_told_what_the_runtime_says_where_it_says_something() {
    let scene = Scene::new();
    let agent = scene.agent();
    agent.replies(attached(false));
    let conf = scene.conf(json!({
        "dns": {"nameservers": ["10.0.0.1"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:2"]},
        "runtimeConfig": {"dns": {"Servers": ["10.0.0.2"], "Searches": ["c.example", "d.example"], "Options": null}}
    }));
    let outcome = scene.call("ADD", &conf).json();
    assert_eq!(
        outcome["dns"],
        json!({"nameservers": ["10.0.0.2"], "domain": "a.example", "search": ["c.example", "d.example"], "options": ["ndots:2"]})
    );
}

#[test]
fn in_a_chain_ours_is_appended() {
    let scene = Scene::new();
    let agent = scene.agent();
    for version in ["0.4.0", "1.1.0"] {
        agent.replies(attached(true));
        let conf = scene.conf(json!({
            "cniVersion": version,
            "dns": {"nameservers": ["10.88.0.1"]},
            "prevResult": {
                "cniVersion": version,
                "interfaces": [
                    {"name": "veth0", "mac": "02:00:00:00:00:01"},
                    {"name": "net1", "mac": "02:00:00:00:00:02", "sandbox": NETNS, "mtu": 9000, "pciID": "0000:00:1f.6"}
                ],
                "ips": [{"version": "4", "address": "192.0.2.2/24", "gateway": "192.0.2.1", "interface": 1}, {"address": "2001:db8::2/64"}],
                "routes": [
                    {"dst": "198.51.100.0/24", "gw": "192.0.2.1", "mtu": 1400, "advmss": 1360, "priority": 100, "table": 7, "scope": 0},
                    {"dst": "203.0.113.0/24"}
                ],
                "dns": {"nameservers": ["192.0.2.53"]}
            }
        }));
        let outcome = scene.call("ADD", &conf);
        assert!(outcome.success, "{outcome:?}");
        golden::same(&format!("chain-{version}.json"), &outcome.stdout);
    }
}

#[test]
fn an_earlier_result_that_makes_no_sense_is_not_decoded() {
    let scene = Scene::new();
    for (previous, why) in [
        (json!("x"), "key 'prevResult' must be an object, but is a string"),
        (json!({"ips": {}}), "key 'prevResult.ips' must be a list, but is an object"),
        (
            json!({"ips": [{"address": "10.0.0.1"}]}),
            "key 'prevResult.ips[0].address': '10.0.0.1' is not an address with a prefix length, such as 10.88.0.7/16",
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "interface": 0}]}),
            "key 'prevResult.ips[0].interface': '0' is not the index of one of the interfaces",
        ),
        (
            json!({"ips": [{"address": "10.0.0.1/8", "interface": -1}]}),
            "key 'prevResult.ips[0].interface': '-1' is not a whole number of at most 32 bits",
        ),
        (json!({"interfaces": [{}]}), "key 'prevResult.interfaces[0].name' is missing"),
        (
            json!({"routes": [{"dst": "here"}]}),
            "key 'prevResult.routes[0].dst': 'here' is not an address with a prefix length, such as 10.88.0.7/16",
        ),
        (json!({"ip4": {"ip": 4}}), "key 'prevResult.ip4.ip' must be a string, but is a number"),
    ] {
        let (code, msg) = scene.call("ADD", &scene.conf(json!({"prevResult": previous}))).error();
        assert_eq!((code, msg), (6, format!("the network configuration's {why}")));
    }
}

#[test]
fn without_an_agent_the_message_says_how_to_start_it() {
    let scene = Scene::new();
    let nobody = scene.call("ADD", &scene.conf(json!({})));
    assert_eq!(nobody.code(), 11);
    assert!(nobody.error().1.starts_with("weft's agent is not running: nobody answers at /"), "{nobody:?}");
    assert!(nobody.details().contains("`systemctl start weft` or `weft agent`"), "{nobody:?}");
    // A socket that is left behind, and nobody listens.
    drop(std::os::unix::net::UnixListener::bind(scene.socket()).unwrap());
    let refused = scene.call("ADD", &scene.conf(json!({})));
    assert_eq!(refused.code(), 11);
    assert!(refused.details().contains("systemctl start weft"));
    assert!(!scene.journal().exists(), "ADD leaves no word");
}

#[test]
fn an_agent_that_goes_away_or_sleeps_is_tried_again_later() {
    let scene = Scene::new();
    let agent = scene.agent();
    for (answer, msg) in [
        (Answer::HangUp, "weft's agent went away before it replied"),
        (Answer::Text("{\"attached\":"), "weft's agent went away before it replied"),
        (Answer::Silence, "weft's agent has not replied for 0 seconds"),
    ] {
        agent.will(answer);
        assert_eq!(scene.call("ADD", &scene.conf(json!({}))).error(), (11, msg.to_owned()));
    }
}

#[test]
fn an_agent_that_does_not_accept_does_not_hold_the_runtime() {
    let scene = Scene::new();
    // Fill the queue of a listener that never accepts.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(scene.socket()).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(scene.socket()).unwrap();
    let outcome = scene.call("ADD", &scene.conf(json!({})));
    assert_eq!(outcome.error(), (11, "weft's agent has not replied for 0 seconds".to_owned()));
}

#[test]
fn an_answer_that_is_none_is_a_failure_of_ours() {
    let scene = Scene::new();
    let agent = scene.agent();
    for answer in [Answer::Text("nonsense\n"), Answer::Text("{\"new-word\":1}\n"), Answer::Reply(done())] {
        agent.will(answer);
        assert_eq!(scene.call("ADD", &scene.conf(json!({}))).code(), 103);
    }
}

#[test]
fn what_the_agent_refuses_has_a_code() {
    let scene = Scene::new();
    let agent = scene.agent();
    for (kind, code) in [
        (ErrorKind::Invalid, 7),
        (ErrorKind::NotFound, 7),
        (ErrorKind::Exists, 101),
        (ErrorKind::Exhausted, 11),
        (ErrorKind::TryAgain, 11),
        (ErrorKind::Kernel, 100),
        (ErrorKind::Storage, 5),
    ] {
        agent.refuses(kind, "no such luck");
        let outcome = scene.call("ADD", &scene.conf(json!({})));
        assert_eq!(outcome.error(), (code, "no such luck".to_owned()));
        assert_eq!(outcome.details(), "do something");
    }
}

#[test]
fn a_namespace_that_is_none_or_the_hosts_is_refused() {
    let mut scene = Scene::new();
    let agent = scene.agent();
    for (netns, why) in [
        ("/run/netns/there-is-none", "cannot be opened: is there such a file?"),
        ("/proc/thread-self/ns/net", "is the host's own namespace, not a container's"),
        ("/run/../etc/passwd", "leads through '..'"),
        ("netns", "is not an absolute path"),
    ] {
        scene.set("CNI_NETNS", netns);
        let (code, msg) = scene.call("ADD", &scene.conf(json!({}))).error();
        assert_eq!((code, msg), (4, format!("CNI_NETNS '{netns}' {why}")));
    }
    assert!(agent.was_left_alone());
}

#[test]
fn rates_that_cannot_be_are_refused_before_anybody_is_asked() {
    let scene = Scene::new();
    let agent = scene.agent();
    for (value, why) in [
        (json!({"ingressRate": 0}), "0 would let nothing through"),
        (json!({"egressRate": 0, "egressBurst": 1000}), "a rate of 0 would let nothing through"),
        (json!({"ingressRate": 1_000_000_000_000_000_000_u64}), "too high: the highest rate is 1T"),
        (json!({"egressRate": 1000}), "too low: the lowest rate is 128k"),
    ] {
        let conf = scene.conf(json!({"runtimeConfig": {"bandwidth": value}}));
        let (code, msg) = scene.call("ADD", &conf).error();
        assert_eq!(code, 7, "{msg}");
        assert!(msg.contains("'runtimeConfig.bandwidth.") && msg.contains(why), "{msg}");
    }
    assert!(agent.was_left_alone());
}

#[test]
fn what_this_release_cannot_do_is_not_passed_over() {
    let scene = Scene::new();
    let conf = scene.conf(json!({"runtimeConfig": {"infinibandGUID": "c2:11:22:33:44:55:66:77"}}));
    let outcome = scene.call("ADD", &conf);
    assert_eq!(outcome.code(), 2);
    assert!(outcome.error().1.contains("'runtimeConfig.infinibandGUID'"), "{outcome:?}");
    assert!(!outcome.details().is_empty());
}

#[test]
fn ports_that_are_none_are_refused_by_name() {
    let scene = Scene::new();
    let agent = scene.agent();
    for (mapping, why) in [
        (json!({"hostPort": 0, "containerPort": 80}), "hostPort': '0' is not a port"),
        (json!({"HostPort": 0, "ContainerPort": 80, "Protocol": "tcp"}), "'0' is not a port"),
        (json!({"containerPort": 80}), "hostPort' is missing"),
        (json!({"hostPort": 90, "containerPort": 80, "range": -10}), "range': '-10' is not a whole number"),
        (json!({"hostPort": "90-80", "containerPort": 80}), "hostPort': '90-80' is not a port"),
        (json!({"hostPort": 1_000_000_000_000_000_000_u64, "containerPort": 80}), "is not a port"),
        (json!({"hostPort": 65536, "containerPort": 80}), "hostPort': '65536' is not a port"),
        (json!({"hostPort": -1, "containerPort": 80}), "hostPort': '-1' is not a port"),
        (json!({"hostPort": "80", "containerPort": 80}), "hostPort': '80' is not a port"),
        (json!({"hostPort": 80, "containerPort": 0}), "containerPort': '0' is not a port"),
        (json!({"hostPort": 80, "containerPort": 65536}), "containerPort': '65536' is not a port"),
        (json!({"hostPort": 80}), "containerPort' is missing"),
        (json!({"hostPort": 80, "containerPort": 80, "protocol": "icmp"}), "'icmp' is not a protocol"),
        (json!({"hostPort": 80, "containerPort": 80, "hostIP": "host"}), "'host' is not an IP address"),
        (json!({"hostPort": 80, "containerPort": 80, "hostIP": "fe80::1"}), "cannot be published at fe80::1"),
        (json!({"hostPort": 65000, "containerPort": 80, "range": 600}), "beyond 65535"),
        (json!({"hostPort": 80, "containerPort": 65000, "range": 600}), "beyond 65535"),
        (json!([80]), "must be an object"),
    ] {
        let conf = scene.conf(json!({"runtimeConfig": {"portMappings": [mapping]}}));
        let (code, message) = scene.call("ADD", &conf).error();
        assert_eq!(code, 7, "{message}");
        assert!(message.contains("portMappings[0]") && message.contains(why), "{message}");
    }
    assert!(agent.was_left_alone());
}
