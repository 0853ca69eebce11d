//! The library's behaviour as a user meets it.

mod attaching;
mod bad_input;
mod batching;
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
mod operations;
mod outside;
mod plans;
mod random;
mod reference;
mod rows;
mod shared;
mod sharing;
mod sweeps;
mod tracing;
