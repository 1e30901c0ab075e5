//! Whatever comes in: no panic, and on stdout one JSON document or nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::scene::{NETNS, Scene};

const COMMANDS: [&str; 7] = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION", "?"];

/// Either a result or an error, and nothing else.
fn answers_properly(scene: &Scene, command: &str, stdin: &[u8]) -> Result<(), TestCaseError> {
    let outcome = scene.call_raw(command, stdin);
    if outcome.success {
        prop_assert!(outcome.stdout.is_empty() || outcome.json().is_object(), "{outcome:?}");
        prop_assert!(command == "DEL" || command == "VERSION" || command == "CHECK" || command == "GC");
    } else {
        let error = outcome.json();
        prop_assert!(error["code"].as_u64().is_some_and(|code| code > 0), "{outcome:?}");
        prop_assert!(error["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{outcome:?}");
        prop_assert!(error["cniVersion"].is_string(), "{outcome:?}");
    }
    Ok(())
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("10.88.0.7/16")),
        Just(json!("../../etc")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            Just("name".to_owned()),
            Just("ips".to_owned()),
            Just("interfaces".to_owned()),
            Just("address".to_owned()),
            Just("interface".to_owned()),
            "[a-z]{0,6}",
        ];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key, inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A configuration that uses every key.
fn full(scene: &Scene) -> Value {
    scene.conf(json!({
        "cniVersions": ["1.0.0"], "capabilities": {"ips": true}, "disableCheck": false, "disableGC": false,
        "ipam": {}, "dns": {"nameservers": ["10.0.0.1"]}, "loadOnlyInlinedPlugins": false,
        "args": {"cni": {"ips": ["10.88.0.7"], "mac": ""}},
        "runtimeConfig": {
            "ips": ["10.88.0.7"], "mac": "02:42:0a:58:00:07", "dns": {"servers": []}, "portMappings": [{"hostPort": 8080, "containerPort": 80}],
            "ipRanges": [[{"subnet": "10.88.0.0/16", "rangeStart": "10.88.0.2"}]], "bandwidth": {"ingressRate": 1_000_000, "egressBurst": 0}
        },
        "prevResult": {
            "interfaces": [{"name": "eth0", "sandbox": NETNS, "mtu": 1500}],
            "ips": [{"version": "4", "address": "10.88.0.7/16", "gateway": "10.88.0.1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.88.0.1", "priority": 5}], "dns": {}
        },
        "cni.dev/attachments": [{"containerID": "a", "ifname": "eth0"}]
    }))
}

/// Every place in a document, as JSON pointers.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    let mut go = |key: &str, value| {
        let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
        places(value, &at, all);
        all.push(at);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| go(k, v)),
        Value::Array(list) => list.iter().enumerate().for_each(|(i, v)| go(&i.to_string(), v)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_on_stdin(command in 0..COMMANDS.len(), stdin in vec(any::<u8>(), 0..200)) {
        answers_properly(&Scene::new(), COMMANDS[command], &stdin)?;
    }

    #[test]
    fn any_value_in_any_place(
        command in 0..COMMANDS.len(), place in any::<prop::sample::Index>(), value in any_json(), cut in any::<Option<prop::sample::Index>>(),
    ) {
        let scene = Scene::new();
        let mut conf = full(&scene);
        let mut all = Vec::new();
        places(&conf, "", &mut all);
        // Without these two the call would go to the real agent and the real journal of this machine.
        all.retain(|at| at != "/socket" && at != "/journal");
        *conf.pointer_mut(&all[place.index(all.len())]).unwrap() = value;
        let mut text = conf.to_string().into_bytes();
        if let Some(cut) = cut.filter(|_| command % 2 == 0) {
            text.truncate(cut.index(text.len()));
        }
        answers_properly(&scene, COMMANDS[command], &text)?;
    }

    #[test]
    fn any_text_in_any_variable(command in 0..COMMANDS.len(), variable in 0..6usize, value in ".{0,40}") {
        let names = ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
        let mut scene = Scene::new();
        scene.set(names[variable], value);
        let conf = full(&scene).to_string();
        answers_properly(&scene, COMMANDS[command], conf.as_bytes())?;
    }
}
