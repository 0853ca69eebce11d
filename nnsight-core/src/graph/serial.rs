//! The graph as JSON and as MessagePack, with a version before it.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Graph, Limits};
use crate::{Error, Result};

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
struct Envelope<G> {
    version: u32,
    graph: G,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

fn check_version(version: u32) -> Result<()> {
    match version {
        VERSION => Ok(()),
        found => Err(Error::GraphVersion { found, known: VERSION, source_line: None }),
    }
}

impl Graph {
    /// As JSON.
    ///
    /// # Errors
    /// [`Error::NotStored`] where it applies a closure, or a constant cannot be read off its device.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(&Envelope { version: VERSION, graph: self })
            .map_err(|error| Error::NotStored { problem: error.to_string(), source_line: None })
    }

    /// Reads what [`Graph::to_json`] wrote, and validates it.
    ///
    /// # Errors
    /// [`Error::GraphVersion`], [`Error::GraphFormat`], and all of [`Graph::validate`].
    pub fn from_json(text: &str) -> Result<Self> {
        let format = |error: serde_json::Error| Error::GraphFormat { problem: error.to_string(), source_line: None };
        check_version(serde_json::from_str::<VersionOnly>(text).map_err(format)?.version)?;
        let graph = serde_json::from_str::<Envelope<Graph>>(text).map_err(format)?.graph;
        graph.validate(&Limits::default())?;
        Ok(graph)
    }

    /// As MessagePack.
    ///
    /// # Errors
    /// As [`Graph::to_json`].
    pub fn to_msgpack(&self) -> Result<Vec<u8>> {
        rmp_serde::to_vec_named(&Envelope { version: VERSION, graph: self })
            .map_err(|error| Error::NotStored { problem: error.to_string(), source_line: None })
    }

    /// Reads what [`Graph::to_msgpack`] wrote, and validates it.
    ///
    /// # Errors
    /// As [`Graph::from_json`].
    pub fn from_msgpack(bytes: &[u8]) -> Result<Self> {
        let format = |error: rmp_serde::decode::Error| Error::GraphFormat { problem: error.to_string(), source_line: None };
        check_version(rmp_serde::from_slice::<VersionOnly>(bytes).map_err(format)?.version)?;
        let graph = rmp_serde::from_slice::<Envelope<Graph>>(bytes).map_err(format)?.graph;
        graph.validate(&Limits::default())?;
        Ok(graph)
    }
}

/// Reads a list, and stops at the limit instead of filling the memory first.
pub(super) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Bounded<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {} entries", Limits::default().nodes)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let limit = Limits::default().nodes;
            let mut list = Vec::with_capacity(entries.size_hint().unwrap_or(0).min(4096));
            while let Some(entry) = entries.next_element()? {
                if list.len() == limit {
                    return Err(A::Error::custom(format!("a list of the graph has more than {limit} entries")));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(Bounded(std::marker::PhantomData))
}
