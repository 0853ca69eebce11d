//! The graph as JSON and as MessagePack, with a version before it.

use std::cell::Cell;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::validate::DEEPEST;
use super::{Body, Graph, Limits, printable};
use crate::{Error, Result};

/// The version that is written. It is read, and so is the one before.
pub const VERSION: u32 = 3;

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
        2 | VERSION => Ok(()),
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
        Self::from_json_within(text, &Limits::default())
    }

    /// As [`Graph::from_json`], within limits of the reader's own.
    ///
    /// # Errors
    /// As [`Graph::from_json`].
    pub fn from_json_within(text: &str, limits: &Limits) -> Result<Self> {
        check_length(text.len(), limits)?;
        let format = |error: serde_json::Error| Error::GraphFormat { problem: printable(&error.to_string()), source_line: None };
        check_version(serde_json::from_str::<VersionOnly>(text).map_err(format)?.version)?;
        let graph = reading(limits, || serde_json::from_str::<Envelope<Graph>>(text)).map_err(format)?.graph;
        graph.validate(limits)?;
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
        Self::from_msgpack_within(bytes, &Limits::default())
    }

    /// As [`Graph::from_msgpack`], within limits of the reader's own.
    ///
    /// # Errors
    /// As [`Graph::from_json`].
    pub fn from_msgpack_within(bytes: &[u8], limits: &Limits) -> Result<Self> {
        check_length(bytes.len(), limits)?;
        let format = |error: rmp_serde::decode::Error| Error::GraphFormat { problem: printable(&error.to_string()), source_line: None };
        check_version(rmp_serde::from_slice::<VersionOnly>(bytes).map_err(format)?.version)?;
        let graph = reading(limits, || rmp_serde::from_slice::<Envelope<Graph>>(bytes)).map_err(format)?.graph;
        graph.validate(limits)?;
        Ok(graph)
    }
}

fn check_length(found: usize, limits: &Limits) -> Result<()> {
    match found <= limits.bytes {
        true => Ok(()),
        false => Err(Error::TooLarge { what: "bytes", found, limit: limits.bytes, source_line: None }),
    }
}

thread_local! {
    /// The longest list that is read here, and how many loops stand around what is read.
    static READING: Cell<(Option<usize>, usize)> = const { Cell::new((None, 0)) };
}

/// Reads with these limits in force: what serde calls for a field is given nothing but the input.
fn reading<T>(limits: &Limits, read: impl FnOnce() -> T) -> T {
    struct Before((Option<usize>, usize));
    impl Drop for Before {
        fn drop(&mut self) {
            READING.set(self.0);
        }
    }
    let before = Before(READING.replace((Some(limits.nodes), 0)));
    let result = read();
    drop(before);
    result
}

/// Reads a list, and stops at the limit instead of filling the memory first.
pub(super) fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Bounded<T>(usize, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {} entries", self.0)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::with_capacity(entries.size_hint().unwrap_or(0).min(4096));
            while let Some(entry) = entries.next_element()? {
                if list.len() == self.0 {
                    return Err(A::Error::custom(format!("a list of the graph has more than {} entries", self.0)));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }
    let limit = READING.get().0.unwrap_or_else(|| Limits::default().nodes);
    deserializer.deserialize_seq(Bounded(limit, std::marker::PhantomData))
}

/// Reads the body of a loop, and stops at the deepest that a graph may have instead of filling the stack first.
pub(super) fn nested<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<Body>, D::Error> {
    let (limit, depth) = READING.get();
    if depth > DEEPEST {
        return Err(D::Error::custom(format!("a loop of the graph is inside of more than {DEEPEST} others")));
    }
    READING.set((limit, depth + 1));
    let body = Box::deserialize(deserializer);
    READING.set((limit, depth));
    body
}
