//! The library's behaviour as a user meets it.

mod bad_input;
mod conditions;
mod forms;
mod golden;
mod graphs;
mod loading;
mod random;
mod reference;
mod shared;
mod tracing;
