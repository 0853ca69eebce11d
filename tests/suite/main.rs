//! The library's behaviour as a user meets it.

mod attaching;
mod bad_input;
mod batching;
mod binding;
mod conditions;
mod documents;
mod editing;
mod forms;
mod generation;
mod golden;
mod gradients;
mod graphs;
mod loading;
mod looking;
mod loops;
mod modules;
mod operations;
mod plain_rust;
mod plans;
mod random;
mod reference;
mod shared;
mod sharing;
mod sweeps;
mod tracing;
