//! Gradients of a scalar with respect to a value of the trace.

use std::marker::PhantomData;

use super::site::Place;
use super::traced::{Origin, Traced};
use super::value::Value;
use super::{SitePart, Tracer};
use crate::graph::{NodeId, Op, Region, Unused};
use crate::types::{Batch, Float, Kind, Shape, Signature};

/// The gradient of a loss with respect to a value. It can be read, and assigned to: what comes further back then sees what was assigned.
#[must_use = "naming a gradient does nothing: assign to it, or use it"]
pub struct Gradient<'t, C, S, K = Float> {
    tracer: &'t Tracer,
    origin: Origin,
    loss: NodeId,
    marker: PhantomData<fn() -> (C, S, K)>,
    plain: super::site::NotPlain,
}

impl<C, S, K> Clone for Gradient<'_, C, S, K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, S, K> Copy for Gradient<'_, C, S, K> {}

impl<C, S, K> std::fmt::Debug for Gradient<'_, C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the gradient of {} with respect to {}", self.loss, self.origin.node)
    }
}

/// The shape of what a gradient can be taken of: a single number, or one for each prompt, which are added up.
#[diagnostic::on_unimplemented(
    message = "a gradient is taken of a single number, or of one for each prompt, and not of something of shape `{Self}`",
    note = "reduce the value first: `.sum_all()`, `.pick(Vocab, token)`"
)]
pub trait LossShape: Shape {}
impl LossShape for () {}
impl LossShape for (Batch,) {}

impl<'t, C, S, K> Gradient<'t, C, S, K> {
    pub(super) fn new(tracer: &'t Tracer, origin: Origin, loss: NodeId) -> Self {
        Gradient { tracer, origin, loss, marker: PhantomData, plain: PhantomData }
    }

    #[track_caller]
    fn whole(self) -> NodeId {
        self.tracer.push(Op::Grad, &[self.origin.node, self.loss])
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Traced<'t, C, S, K> for Gradient<'t, C, S, K> {
    fn tracer(self) -> &'t Tracer {
        self.tracer
    }
    fn value(self) -> Value<'t, C, S, K> {
        let whole = self.whole();
        let region = self.origin.region();
        match region.is_whole() {
            true => Value::new(self.tracer, whole),
            false => Value::new(self.tracer, self.tracer.push(Op::Slice(region), &[whole])),
        }
    }
}

impl<'t, C: Signature, S: Shape, K: Kind> Place<'t, C, S, K> for Gradient<'t, C, S, K> {
    fn store(self, value: NodeId, _unused: Unused) {
        let region: Region = self.origin.region();
        let value = match region.is_whole() {
            true => value,
            false => self.tracer.push(Op::Patch(region), &[self.whole(), value]),
        };
        self.tracer.push(Op::SetGrad, &[self.origin.node, self.loss, value]);
    }
}

impl<'t, C: Signature, S: Shape> SitePart<'t, C, S, Float> {
    /// The gradient of a loss with respect to this part.
    #[track_caller]
    pub fn grad<L: LossShape>(self, loss: impl Traced<'t, C, L, Float>) -> Gradient<'t, C, S> {
        Gradient::new(self.tracer(), self.origin(), loss.value().id)
    }
}

macro_rules! grad {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature, S: Shape> super::$place<'t, C, S, Float> {
            /// The gradient of a loss, which is a single number or one for each prompt, with respect to this value. It can be read, and
            /// assigned to on its way back: `h.grad(loss) *= 2.0`.
            ///
            /// # Errors
            /// Where the loss does not depend on the value, or depends on it only through operations without a gradient, the trace fails
            /// with this line before anything is computed.
            #[track_caller]
            pub fn grad<L: LossShape>(self, loss: impl Traced<'t, C, L, Float>) -> Gradient<'t, C, S> {
                let node = self.value().id;
                Gradient::new(self.tracer(), Origin::of(self.tracer(), node), loss.value().id)
            }
        }
    )+};
}
grad!(Value, Site);
