//! What is taken in as a service and a slice, and what is refused by which name.

use crate::Object;

fn service(spec: &str) -> Result<Object, String> {
    let status = r#"{"loadBalancer":{}}"#;
    let text = format!(
        r#"{{"kind":"Service","apiVersion":"v1","metadata":{{"name":"web"}},"spec":{spec},"status":{status}}}"#
    );
    read(&text)
}

fn slice(rest: &str) -> Result<Object, String> {
    let text = format!(
        r#"{{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{{"name":"web-1"}},{rest}}}"#
    );
    read(&text)
}

fn read(text: &str) -> Result<Object, String> {
    let object: Object = serde_json::from_str(text).map_err(|e| e.to_string())?;
    object.validate().map_err(|flaw| flaw.to_string())?;
    Ok(object)
}

#[test]
fn services_as_kubernetes_writes_them() {
    for good in [
        r#"{"ports":[{"port":80}]}"#,
        r#"{"type":"NodePort","selector":{"app":"web"},"ports":[{"name":"http","port":80,"targetPort":"web","nodePort":30080,"appProtocol":"http"}]}"#,
        r#"{"clusterIP":"None","selector":{"app":"web"}}"#,
        r#"{"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00::9"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"RequireDualStack","ports":[{"port":53,"protocol":"UDP"}]}"#,
        r#"{"sessionAffinity":"None","ports":[{"port":1,"protocol":"SCTP"}]}"#,
        r#"{"internalTrafficPolicy":"Cluster","publishNotReadyAddresses":true,"externalIPs":["192.0.2.7"],"ports":[{"port":1}]}"#,
    ] {
        let object = service(good).unwrap_or_else(|why| panic!("{good}: {why}"));
        let again: Object = serde_json::from_str(&serde_json::to_string(&object).unwrap()).unwrap();
        assert_eq!(object, again);
    }
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    for (bad, name) in [
        (r#"{"type":"LoadBalancer","ports":[{"port":80}]}"#, "spec.type: LoadBalancer"),
        (r#"{"type":"ExternalName","ports":[{"port":80}]}"#, "spec.type: ExternalName"),
        (r#"{"externalTrafficPolicy":"Local","ports":[{"port":80}]}"#, "spec.externalTrafficPolicy"),
        (r#"{"internalTrafficPolicy":"Local","ports":[{"port":80}]}"#, "spec.internalTrafficPolicy"),
        (r#"{"trafficDistribution":"PreferClose","ports":[{"port":80}]}"#, "trafficDistribution"),
        (r#"{"loadBalancerSourceRanges":[],"ports":[{"port":80}]}"#, "loadBalancerSourceRanges"),
        (r#"{"healthCheckNodePort":1,"ports":[{"port":80}]}"#, "healthCheckNodePort"),
        (r#"{}"#, "spec.ports"),
        (r#"{"ports":[{"port":80},{"port":81}]}"#, "spec.ports[0].name"),
        (r#"{"ports":[{"name":"a","port":80},{"name":"b","port":80}]}"#, "spec.ports[1].port"),
        (r#"{"ports":[{"port":80,"nodePort":30000}]}"#, "spec.ports[0].nodePort"),
        (r#"{"clusterIP":"10.0.0.300","ports":[{"port":80}]}"#, "10.0.0.300"),
        (r#"{"clusterIPs":["10.0.0.1","10.0.0.2"],"ports":[{"port":80}]}"#, "spec.clusterIPs"),
        (r#"{"clusterIP":"None","type":"NodePort","ports":[{"port":80}]}"#, "spec.clusterIP"),
        (r#"{"sessionAffinity":"ClientIP","ports":[{"port":1}]}"#, "spec.sessionAffinity"),
        (
            r#"{"sessionAffinityConfig":{"clientIP":{"timeoutSeconds":86401}},"ports":[{"port":1}]}"#,
            "spec.sessionAffinityConfig",
        ),
    ] {
        let why = service(bad).expect_err(bad);
        assert!(why.contains(name), "{bad}: {why}");
    }
}

#[test]
fn slices_lead_only_to_addresses_that_packets_between_hosts_bear() {
    let with = |family: &str, address: &str| {
        slice(&format!(
            r#""addressType":"{family}","endpoints":[{{"addresses":["{address}"]}}],"ports":[{{"port":80}}]"#
        ))
    };
    for (family, good) in [("IPv4", "192.0.2.1"), ("IPv6", "2001:db8::1")] {
        with(family, good).unwrap();
    }
    for (family, bad) in [
        ("IPv4", "127.0.0.1"),
        ("IPv4", "169.254.169.254"),
        ("IPv4", "224.0.0.1"),
        ("IPv4", "0.0.0.0"),
        ("IPv4", "255.255.255.255"),
        ("IPv6", "::1"),
        ("IPv6", "fe80::1"),
        ("IPv6", "ff02::1"),
        ("IPv6", "::"),
        ("IPv6", "::ffff:127.0.0.1"),
        ("IPv6", "fd00:ec2::254"),
        ("IPv4", "2001:db8::1"),
    ] {
        let why = with(family, bad).expect_err(bad);
        assert!(why.contains("endpoints[0].addresses[0]"), "{bad}: {why}");
    }
    let why = slice(r#""addressType":"FQDN","endpoints":[],"ports":[]"#).unwrap_err();
    assert!(why.contains("FQDN"), "{why}");
    assert!(
        slice(r#""addressType":"IPv4","endpoints":[],"ports":[],"nodes":1"#).unwrap_err().contains("nodes")
    );
}
