//! What people have declared: objects by kind, as `weft apply` took them in.

use std::collections::BTreeMap;

use crate::label::Labels;
use crate::name::{NamespaceName, ObjectName};
use crate::namespace::{self, Namespace};
use crate::object::{Kind, Object, ObjectId};
use crate::policy::{ClusterNetworkPolicy, NetworkPolicy};
use crate::service::{Service, ServiceName};
use crate::slice::EndpointSlice;

/// What people have declared, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Namespaces that have an object.
    pub namespaces: BTreeMap<NamespaceName, Namespace>,
    /// Policies of namespaces.
    pub policies: BTreeMap<(NamespaceName, ObjectName), NetworkPolicy>,
    /// Policies for the whole cluster.
    pub cluster_policies: BTreeMap<ObjectName, ClusterNetworkPolicy>,
    /// Services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Backends of services by address.
    pub slices: BTreeMap<(NamespaceName, ObjectName), EndpointSlice>,
}

impl Declared {
    /// Takes an object in, in the place of an older one; returns that.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let ObjectId { namespace, name, .. } = object.id();
        let namespace = namespace.unwrap_or_else(namespace::default_namespace);
        match object {
            Object::Namespace(object) => {
                let name = name.as_str().parse().ok()?; // checked by `validate`
                self.namespaces.insert(name, object).map(Object::Namespace)
            }
            Object::NetworkPolicy(object) => {
                self.policies.insert((namespace, name), object).map(Object::NetworkPolicy)
            }
            Object::ClusterNetworkPolicy(object) => {
                self.cluster_policies.insert(name, object).map(Object::ClusterNetworkPolicy)
            }
            Object::Service(object) => self.services.insert((namespace, name), object).map(Object::Service),
            Object::EndpointSlice(object) => {
                self.slices.insert((namespace, name), object).map(Object::EndpointSlice)
            }
        }
    }

    /// Forgets an object; returns it.
    pub fn remove(&mut self, id: &ObjectId) -> Option<Object> {
        let name = &id.name;
        let key = || (id.namespace.clone().unwrap_or_else(namespace::default_namespace), name.clone());
        match id.kind {
            Kind::Namespace => self.namespaces.remove(&name.as_str().parse().ok()?).map(Object::Namespace),
            Kind::NetworkPolicy => self.policies.remove(&key()).map(Object::NetworkPolicy),
            Kind::Service => self.services.remove(&key()).map(Object::Service),
            Kind::EndpointSlice => self.slices.remove(&key()).map(Object::EndpointSlice),
            Kind::ClusterNetworkPolicy => {
                self.cluster_policies.remove(name).map(Object::ClusterNetworkPolicy)
            }
        }
    }

    /// The names of all objects, in the order of [`objects`](Self::objects).
    pub fn ids(&self) -> impl Iterator<Item = ObjectId> {
        let id = |kind, namespace, name| ObjectId { kind, namespace, name };
        let namespaces = self.namespaces.keys().filter_map(|name| name.as_str().parse().ok());
        let namespaces = namespaces.map(move |name| id(Kind::Namespace, None, name));
        let within = move |kind| {
            move |(namespace, name): &(NamespaceName, ObjectName)| {
                id(kind, Some(namespace.clone()), name.clone())
            }
        };
        let policies = self.policies.keys().map(within(Kind::NetworkPolicy));
        let cluster = self.cluster_policies.keys();
        let cluster = cluster.map(move |name| id(Kind::ClusterNetworkPolicy, None, name.clone()));
        let services = self.services.keys().map(within(Kind::Service));
        let slices = self.slices.keys().map(within(Kind::EndpointSlice));
        namespaces.chain(policies).chain(cluster).chain(services).chain(slices)
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let namespaces = self.namespaces.values().cloned().map(Object::Namespace);
        let policies = self.policies.values().cloned().map(Object::NetworkPolicy);
        let cluster = self.cluster_policies.values().cloned().map(Object::ClusterNetworkPolicy);
        let services = self.services.values().cloned().map(Object::Service);
        let slices = self.slices.values().cloned().map(Object::EndpointSlice);
        namespaces.chain(policies).chain(cluster).chain(services).chain(slices)
    }

    /// The labels of a namespace, its name among them.
    #[must_use]
    pub fn namespace_labels(&self, name: &NamespaceName) -> Labels {
        namespace::labels(name, self.namespaces.get(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_has_its_name_among_the_names() {
        let mut declared = Declared::default();
        for text in [
            r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"shop"}}"#,
            r#"{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{"name":"p","namespace":"shop"},"spec":{}}"#,
            r#"{"kind":"ClusterNetworkPolicy","apiVersion":"policy.networking.k8s.io/v1alpha2","metadata":{"name":"c"},
                "spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}}}}"#,
            r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"s","namespace":"shop"},"spec":{"ports":[{"port":80}]}}"#,
            r#"{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"e","namespace":"shop"},
                "addressType":"IPv4","endpoints":[]}"#,
        ] {
            let object: Object = serde_json::from_str(text).unwrap();
            let id = object.id();
            declared.insert(object);
            assert!(declared.ids().any(|other| other == id), "{id} is missing");
        }
        assert_eq!(declared.ids().count(), Kind::ALL.len(), "a kind is not among these");
        assert!(declared.ids().eq(declared.objects().map(|object| object.id())));
    }
}
