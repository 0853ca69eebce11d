//! The library's behaviour as a user meets it.

mod attaching;
mod bad_input;
mod batching;
mod conditions;
mod documents;
mod editing;
mod forms;
mod fuzz;
mod generation;
mod golden;
mod gradients;
mod graphs;
mod hostile;
mod loading;
mod looking;
mod loops;
mod operations;
mod planning_time;
mod plans;
mod random;
mod reference;
mod shared;
mod sharing;
mod sweeps;
mod tracing;
