//! Objects as people declare them: Kubernetes' kinds with Kubernetes' fields (`weft apply -f`).
//!
//! A kind is a struct that implements [`Resource`] and a variant of [`Object`]. Unknown fields are refused, never ignored:
//! a policy that is not understood whole is not understood (BAR.md, security row 31).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::label::Labels;
use crate::name::{NamespaceName, ObjectName};
use crate::namespace::{Namespace, default_namespace};
use crate::policy::{ClusterNetworkPolicy, NetworkPolicy};
use crate::service::Service;
use crate::slice::EndpointSlice;

/// What all objects have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Its name, of which there is one per kind and namespace.
    pub name: ObjectName,
    /// Its namespace, for kinds that live in one; `default` if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// Labels of the object itself.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Notes for people and programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What an API server adds to what it returns; taken and left out.
    #[serde(default, skip_serializing)]
    uid: Dropped,
    #[serde(default, skip_serializing)]
    resource_version: Dropped,
    #[serde(default, skip_serializing)]
    generation: Dropped,
    #[serde(default, skip_serializing)]
    creation_timestamp: Dropped,
    #[serde(default, skip_serializing)]
    managed_fields: Dropped,
}

/// Something that is accepted in the text and kept nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped;

impl<'de> Deserialize<'de> for Dropped {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Dropped, D::Error> {
        serde::de::IgnoredAny::deserialize(from).map(|_| Dropped)
    }
}

impl Metadata {
    /// A name, and nothing else.
    #[must_use]
    pub fn named(name: ObjectName, namespace: Option<NamespaceName>) -> Metadata {
        Metadata {
            name,
            namespace,
            labels: Labels::new(),
            annotations: BTreeMap::new(),
            uid: Dropped,
            resource_version: Dropped,
            generation: Dropped,
            creation_timestamp: Dropped,
            managed_fields: Dropped,
        }
    }
}

/// What is wrong with an object, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Flaw {
    /// The field, such as `spec.ingress[0].from[1].ipBlock.cidr`.
    pub path: String,
    /// Why it cannot be so.
    pub why: String,
}

impl Flaw {
    /// A flaw of a field.
    pub fn new(path: impl Into<String>, why: impl Into<String>) -> Flaw {
        Flaw { path: path.into(), why: why.into() }
    }
}

/// What a kind of object has to say of itself.
pub trait Resource {
    /// `apiVersion`.
    const API_VERSION: &'static str;
    /// `kind`.
    const KIND: &'static str;
    /// What several are called, in lower case.
    const PLURAL: &'static str;
    /// A short word for it.
    const SHORT: &'static str;
    /// Whether it lives in a namespace.
    const NAMESPACED: bool;

    /// Every `apiVersion` that it may have, the usual one first.
    #[must_use]
    fn versions() -> &'static [&'static str] {
        const { &[Self::API_VERSION] }
    }
    /// Whether its fields go together.
    ///
    /// # Errors
    /// The first flaw.
    fn validate_spec(&self) -> Result<(), Flaw>;
}

/// The word by which a kind is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// `apiVersion`.
    pub api_version: &'static str,
    /// Every `apiVersion` there is of it.
    pub versions: &'static [&'static str],
    /// `kind`.
    pub kind: &'static str,
    /// What several are called.
    pub plural: &'static str,
    /// A short word.
    pub short: &'static str,
    /// Whether it lives in a namespace.
    pub namespaced: bool,
}

macro_rules! objects {
    ($($kind:ident),+ $(,)?) => {
        /// An object of one of the kinds that weft knows.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Object {
            $(
                #[doc = concat!("`kind: ", stringify!($kind), "`.")]
                $kind($kind),
            )+
        }

        /// The kinds that weft knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(
                #[doc = concat!("`kind: ", stringify!($kind), "`.")]
                $kind,
            )+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind),+];

            /// What is known of it.
            #[must_use]
            pub fn info(self) -> KindInfo {
                match self {
                    $(Kind::$kind => KindInfo {
                        api_version: <$kind as Resource>::API_VERSION,
                        versions: <$kind as Resource>::versions(),
                        kind: <$kind as Resource>::KIND,
                        plural: <$kind as Resource>::PLURAL,
                        short: <$kind as Resource>::SHORT,
                        namespaced: <$kind as Resource>::NAMESPACED,
                    },)+
                }
            }

            /// Reads an object of this kind from its fields without `kind`.
            ///
            /// # Errors
            /// The deserializer's.
            pub fn read<'de, D: Deserializer<'de>>(self, from: D) -> Result<Object, D::Error> {
                match self {
                    $(Kind::$kind => $kind::deserialize(from).map(Object::$kind),)+
                }
            }
        }

        impl Object {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Object::$kind(_) => Kind::$kind,)+
                }
            }

            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &Metadata {
                match self {
                    $(Object::$kind(object) => &object.metadata,)+
                }
            }

            fn api_version(&self) -> &str {
                match self {
                    $(Object::$kind(object) => &object.api_version,)+
                }
            }

            fn validate_spec(&self) -> Result<(), Flaw> {
                match self {
                    $(Object::$kind(object) => object.validate_spec(),)+
                }
            }
        }
    };
}

objects!(Namespace, NetworkPolicy, ClusterNetworkPolicy, Service, EndpointSlice);

impl Kind {
    /// The kind that somebody means by `networkpolicy`, `networkpolicies`, `netpol`, `NetworkPolicy`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        Kind::ALL.iter().copied().find(|kind| {
            let info = kind.info();
            word == info.plural || word == info.short || word == info.kind.to_ascii_lowercase()
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().kind)
    }
}

/// What names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, if the kind lives in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// Its name.
    pub name: ObjectName,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind, self.name),
            None => write!(f, "{}/{}", self.kind, self.name),
        }
    }
}

impl Object {
    /// What names it. Objects of namespaced kinds that name no namespace are in `default`.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        let metadata = self.metadata();
        let namespace = self
            .kind()
            .info()
            .namespaced
            .then(|| metadata.namespace.clone().unwrap_or_else(default_namespace));
        ObjectId { kind: self.kind(), namespace, name: metadata.name.clone() }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// The first flaw.
    pub fn validate(&self) -> Result<(), Flaw> {
        let info = self.kind().info();
        if !info.versions.contains(&self.api_version()) {
            let versions = info.versions.join(" or ");
            let why = format!("'{}' is not {}'s, which is {versions}", self.api_version(), info.kind);
            return Err(Flaw::new("apiVersion", why));
        }
        if !info.namespaced && self.metadata().namespace.is_some() {
            return Err(Flaw::new("metadata.namespace", format!("a {} lives in no namespace", info.kind)));
        }
        self.validate_spec()
    }

    /// Writes down what is only implied, so that equal objects are equal: the namespace; and takes out what is not
    /// a person's to say: that a namespace is terminating.
    pub fn settle(&mut self) {
        let namespace = self.id().namespace;
        match self {
            Object::Namespace(object) => object.status = crate::namespace::NamespaceStatus::default(),
            Object::NetworkPolicy(object) => object.metadata.namespace = namespace,
            Object::Service(object) => object.metadata.namespace = namespace,
            Object::EndpointSlice(object) => object.metadata.namespace = namespace,
            Object::ClusterNetworkPolicy(_) => {}
        }
    }
}
