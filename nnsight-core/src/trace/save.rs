//! What a block may end with, and what comes back for it.

use super::gradient::Gradient;
use super::traced::Traced;
use super::value::Value;
use super::{Site, SitePart};
use crate::graph::NodeId;
use crate::types::{Kind, Saved, Shape, Signature, Tensor};
use crate::{Error, Result};

/// What a run gave back, in the order in which it was asked for: tensors, or why there is none.
#[derive(Debug)]
pub struct Results {
    tensors: std::vec::IntoIter<Result<Saved>>,
    found: usize,
}

impl Results {
    /// The results of a run, one per saved value.
    pub fn new(tensors: Vec<Result<Saved>>) -> Self {
        Results { found: tensors.len(), tensors: tensors.into_iter() }
    }

    pub(crate) fn next(&mut self) -> Result<Saved> {
        let missing = || Err(Error::WrongResults { expected: self.found + 1, found: self.found, source_line: None });
        self.tensors.next().unwrap_or_else(missing)
    }
}

/// What a block may end with: a value or site, and tuples, arrays, `Vec`s, `Option`s and structs with `#[derive(Save)]` of those.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be saved",
    label = "not something a trace can give back",
    note = "a block ends with what it saves: a value or site, a tuple, array, `Vec` or `Option` of those, a struct with `#[derive(Save)]`, or `()`"
)]
pub trait Save<'t> {
    /// What comes back.
    type Saved;
    /// What remains while the trace runs: how many values there are where that varies.
    #[doc(hidden)]
    type Form;
    #[doc(hidden)]
    #[track_caller]
    fn register(self, saves: &mut Vec<NodeId>) -> Self::Form;
    /// Takes all of its results, also where one of them is missing.
    #[doc(hidden)]
    fn collect(form: Self::Form, results: &mut Results) -> Result<Self::Saved>;
}

macro_rules! save_value {
    ($($place:ident),+) => {$(
        impl<'t, C: Signature, S: Shape, K: Kind> Save<'t> for $place<'t, C, S, K> {
            type Saved = Tensor<C, S, K>;
            type Form = ();
            fn register(self, saves: &mut Vec<NodeId>) {
                saves.push(self.value().id);
            }
            fn collect((): (), results: &mut Results) -> Result<Self::Saved> {
                results.next().map(Tensor::of)
            }
        }
        impl<'t, C: Signature, S: Shape, K: Kind> Save<'t> for &$place<'t, C, S, K> {
            type Saved = Tensor<C, S, K>;
            type Form = ();
            fn register(self, saves: &mut Vec<NodeId>) {
                (*self).register(saves);
            }
            fn collect((): (), results: &mut Results) -> Result<Self::Saved> {
                results.next().map(Tensor::of)
            }
        }
    )+};
}
save_value!(Value, Site, SitePart, Gradient);

impl<'t, T: Save<'t>> Save<'t> for Vec<T> {
    type Saved = Vec<T::Saved>;
    type Form = Vec<T::Form>;
    fn register(self, saves: &mut Vec<NodeId>) -> Self::Form {
        let mut forms = Vec::with_capacity(self.len());
        // A closure would have the line of this file and not the caller's.
        for value in self {
            forms.push(value.register(saves));
        }
        forms
    }
    fn collect(form: Self::Form, results: &mut Results) -> Result<Self::Saved> {
        let found = form.into_iter().map(|form| T::collect(form, results)).collect::<Vec<_>>();
        // Of the steps of a generation there are as many as the run had.
        found.into_iter().filter(|found| !matches!(found, Err(Error::StepNotReached { named: false, .. }))).collect()
    }
}

impl<'t, T: Save<'t>> Save<'t> for Option<T> {
    type Saved = Option<T::Saved>;
    type Form = Option<T::Form>;
    fn register(self, saves: &mut Vec<NodeId>) -> Self::Form {
        Some(self?.register(saves))
    }
    fn collect(form: Self::Form, results: &mut Results) -> Result<Self::Saved> {
        form.map(|form| T::collect(form, results)).transpose()
    }
}

impl<'t, T: Save<'t>, const N: usize> Save<'t> for [T; N] {
    type Saved = [T::Saved; N];
    type Form = [T::Form; N];
    fn register(self, saves: &mut Vec<NodeId>) -> Self::Form {
        let mut forms = Vec::with_capacity(N);
        for value in self {
            forms.push(value.register(saves));
        }
        forms.try_into().unwrap_or_else(|_| unreachable!("the array has as many entries as before"))
    }
    fn collect(form: Self::Form, results: &mut Results) -> Result<Self::Saved> {
        let found = form.map(|form| T::collect(form, results)).into_iter().collect::<Result<Vec<_>>>()?;
        Ok(found.try_into().unwrap_or_else(|_| unreachable!("the array has as many entries as before")))
    }
}

macro_rules! save_tuple {
    ($($name:ident $index:tt),*) => {
        impl<'t, $($name: Save<'t>),*> Save<'t> for ($($name,)*) {
            type Saved = ($($name::Saved,)*);
            type Form = ($($name::Form,)*);
            #[allow(clippy::unused_unit, clippy::let_unit_value)]
            fn register(self, _saves: &mut Vec<NodeId>) -> Self::Form {
                ($(self.$index.register(_saves),)*)
            }
            #[allow(clippy::unused_unit, clippy::let_unit_value)]
            fn collect(_form: Self::Form, _results: &mut Results) -> Result<Self::Saved> {
                let _found = ($($name::collect(_form.$index, _results),)*);
                Ok(($(_found.$index?,)*))
            }
        }
    };
}
save_tuple!();
save_tuple!(A 0);
save_tuple!(A 0, B 1);
save_tuple!(A 0, B 1, C 2);
save_tuple!(A 0, B 1, C 2, D 3);
save_tuple!(A 0, B 1, C 2, D 3, E 4);
save_tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
save_tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
save_tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
