//! What flows from stage to stage of a model.

use std::any::Any;

use candle_core::Tensor;

use crate::graph::Span;
use crate::{Error, Result};

/// What flows from stage to stage of a model: a tensor whose axes begin with rows and positions, or several of them.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use nnsight_core::graph::Span;
/// use nnsight_core::run::State;
/// // Two streams, and what later stages take from earlier ones.
/// let x = Tensor::zeros((2, 5, 8), DType::F32, &Device::Cpu)?;
/// let state = (x.clone(), vec![x.clone(), x]);
/// let (stream, skips) = state.part(Span { start: 1, len: 1 }, Span { start: 0, len: 3 })?;
/// assert_eq!((stream.dims(), skips[1].dims()), ([1, 3, 8].as_slice(), [1, 3, 8].as_slice()));
/// # Ok::<(), nnsight_core::Error>(())
/// ```
pub trait State: Clone + 'static {
    /// Some rows and positions.
    ///
    /// # Errors
    /// If there are not so many.
    fn part(&self, rows: Span, positions: Span) -> Result<Self>;
    /// The rows of several side by side.
    ///
    /// # Errors
    /// If their other sizes differ.
    fn cat(states: &[Self]) -> Result<Self>;
}

impl State for Tensor {
    fn part(&self, rows: Span, positions: Span) -> Result<Self> {
        Ok(self.narrow(0, rows.start, rows.len)?.narrow(1, positions.start, positions.len)?)
    }
    fn cat(states: &[Self]) -> Result<Self> {
        Ok(Tensor::cat(states, 0)?)
    }
}

impl<S: State> State for Vec<S> {
    fn part(&self, rows: Span, positions: Span) -> Result<Self> {
        self.iter().map(|state| state.part(rows, positions)).collect()
    }
    fn cat(states: &[Self]) -> Result<Self> {
        let count = states.iter().map(Vec::len).min().unwrap_or(0);
        (0..count).map(|index| S::cat(&states.iter().map(|state| state[index].clone()).collect::<Vec<_>>())).collect()
    }
}

macro_rules! tuples {
    ($($($name:ident $index:tt),+;)+) => {$(
        impl<$($name: State),+> State for ($($name,)+) {
            fn part(&self, rows: Span, positions: Span) -> Result<Self> {
                Ok(($(self.$index.part(rows, positions)?,)+))
            }
            fn cat(states: &[Self]) -> Result<Self> {
                Ok(($($name::cat(&states.iter().map(|state| state.$index.clone()).collect::<Vec<_>>())?,)+))
            }
        }
    )+};
}
tuples!(A 0, B 1; A 0, B 1, C 2; A 0, B 1, C 2, D 3;);

/// A [`State`] of some model.
pub struct AnyState(Box<dyn Erased>);

trait Erased: Any {
    fn copy(&self) -> AnyState;
    fn part(&self, rows: Span, positions: Span) -> Result<AnyState>;
    fn cat(&self, others: &[AnyState]) -> Result<AnyState>;
}

impl<S: State> Erased for S {
    fn copy(&self) -> AnyState {
        AnyState::new(self.clone())
    }
    fn part(&self, rows: Span, positions: Span) -> Result<AnyState> {
        State::part(self, rows, positions).map(AnyState::new)
    }
    fn cat(&self, others: &[AnyState]) -> Result<AnyState> {
        let mut states = vec![self.clone()];
        for other in others {
            states.push(other.get::<S>()?.clone());
        }
        S::cat(&states).map(AnyState::new)
    }
}

impl AnyState {
    /// The state of a model.
    pub fn new(state: impl State) -> Self {
        AnyState(Box::new(state))
    }

    /// The state, if it is one of this type.
    ///
    /// # Errors
    /// If it is another model's.
    pub fn into_inner<S: State>(self) -> Result<S> {
        let state: Box<dyn Any> = self.0;
        state.downcast().map(|state| *state).map_err(|_| other::<S>())
    }

    fn get<S: State>(&self) -> Result<&S> {
        (&*self.0 as &dyn Any).downcast_ref().ok_or_else(other::<S>)
    }

    pub(super) fn part(&self, rows: Span, positions: Span) -> Result<Self> {
        self.0.part(rows, positions)
    }

    /// The rows of several side by side; `None` of none.
    pub(super) fn cat(states: &[AnyState]) -> Result<Option<Self>> {
        states.split_first().map(|(first, others)| if others.is_empty() { Ok(first.clone()) } else { first.0.cat(others) }).transpose()
    }
}

impl Clone for AnyState {
    fn clone(&self) -> Self {
        self.0.copy()
    }
}

fn other<S>() -> Error {
    Error::OtherBatch { expected: std::any::type_name::<S>(), source_line: None }
}
