//! The typed intervention graph of nnsight, and the interleaver that runs it inside a forward pass. It knows no model.
//!
//! Data flows one way: a block is recorded by a [`trace::Tracer`] as a [`graph::Graph`], ordered by a [`plan::Plan`], and run by
//! [`run::execute`], which calls the kernels of `nnsight_kernels`.

#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::print_stdout, clippy::print_stderr)]

// Generated code names this crate by the facade's name.
extern crate self as nnsight;

pub mod batch;
mod error;
pub mod graph;
pub mod module;
pub mod observer;
pub mod outside;
pub mod plan;
pub mod run;
pub mod sites;
pub mod trace;
pub mod types;

pub use error::{Error, InputProblem, Report, Result, brief, first_line};

/// What generated code calls. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::Result;
    pub use crate::graph::{Axis, NodeId};
    pub use crate::module::{BelongsTo, Forward, Instrument, Place, Pointwise, Tap, innermost};
    pub use crate::sites::{DependsOn, Mixing, Registrar};
    pub use crate::trace::{
        Assigned, Caching, Cursor, IntoCondition, Keep, Layers, MatchNumber, ModuleHandle, Operand, Probe, Results, Save, Site, SiteList, Traced,
        Value, WhileCondition, all_inputs, all_inputs_generating, default_settings, edit, generating, graph, grid2, grid3, invoke, labelled, point,
        points, run, scan, sites, stream, sweep, sweep_on, swept, template, tracer,
    };
    pub use crate::{__bind as bind, __borrow as borrow, __handle as handle, __known as known, __read as read};

    /// The traits whose methods a block calls, without names that could meet the user's.
    pub mod block {
        pub use crate::trace::{
            BindsLent as _, BindsOther as _, BindsPlace as _, BindsPlain as _, PlainAdd as _, PlainAssign as _, PlainDiv as _, PlainList as _,
            PlainMul as _, PlainPlace as _, PlainRead as _, PlainSub as _, Traced as _,
        };
    }
    pub use crate::graph::KindTag;
    pub use crate::types::{Bool, Describes, EndsWith, Float, HasLayer, Int, Kind, Shape, ShapeOf, Signature};
    pub use candle_core::Result as CandleResult;
}
