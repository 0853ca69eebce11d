//! What is made of the entries along an axis, outside of a trace as inside.

use std::panic::Location;

use super::computed::{Here, check_sizes, computed};
use crate::Result;
use crate::graph::{Binary, Op, Reduce};
use crate::types::{Along, BroadcastFrom, Float, HasAxis, Int, Kind, Number, One, Ranked, ReplaceAxis, SameKind, SameModel, Saved, Shape, Tensor};

macro_rules! reduce {
    ($($(#[$meta:meta])* $name:ident $keep:ident $all:ident $op:ident -> $kind:ty;)+) => {
        impl<C, S: Shape, K: Number> Tensor<C, S, K> {$(
            $(#[$meta])*
            /// Along an axis, which is then gone. An axis that is given as a number is candle's, and so is the result.
            ///
            /// # Errors
            /// [`RowsDiffer`](crate::Error::RowsDiffer) or [`RowEnded`](crate::Error::RowEnded) if that would mix padding in.
            ///
            /// # Examples
            /// ```
            /// use nnsight_core::types::{Dynamic, Tensor};
            /// # nnsight_core::position_dims!(Time = Position);
            /// # nnsight_core::model_dims!(Width);
            /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
            /// let h = Tensor::<Dynamic, (Time, Width)>::new(entries)?;
            #[doc = concat!("println!(\"{}\", h.", stringify!($name), "(Time)?);")]
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[track_caller]
            pub fn $name<A, I>(&self, axis: A) -> A::Removed<C, $kind>
            where
                A: Along<S, I>,
            {
                let position = axis.position(S::RANK);
                A::finish(match position {
                    Ok(position) => self.reduced(stringify!($name), Reduce::$op, Some(position), false),
                    Err(error) => Err(error.into()),
                })
            }

            $(#[$meta])*
            /// Along an axis, which stays with one entry, so that the result broadcasts against the tensor.
            ///
            /// # Errors
            /// As without `_keepdim`.
            ///
            /// # Examples
            /// ```
            /// use nnsight_core::types::{Dynamic, Tensor};
            /// # nnsight_core::position_dims!(Time = Position);
            /// # nnsight_core::model_dims!(Width);
            /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
            /// let h = Tensor::<Dynamic, (Time, Width)>::new(entries)?;
            #[doc = concat!("println!(\"{}\", h.", stringify!($keep), "(Width)?);")]
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[track_caller]
            pub fn $keep<A, I>(&self, _axis: A) -> Result<Tensor<C, S::Replaced, $kind>>
            where
                S: ReplaceAxis<A, I, One>,
            {
                self.reduced(stringify!($keep), Reduce::$op, Some(S::POSITION), true).map(Tensor::of)
            }

            $(#[$meta])*
            /// Over all entries.
            ///
            /// # Errors
            /// As along an axis.
            ///
            /// # Examples
            /// ```
            /// use nnsight_core::types::{Dynamic, Tensor};
            /// # nnsight_core::position_dims!(Time = Position);
            /// # nnsight_core::model_dims!(Width);
            /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
            /// let h = Tensor::<Dynamic, (Time, Width)>::new(entries)?;
            #[doc = concat!("println!(\"{}\", h.", stringify!($all), "()?);")]
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            #[track_caller]
            pub fn $all(&self) -> Result<Tensor<C, (), $kind>> {
                self.reduced(stringify!($all), Reduce::$op, None, false).map(Tensor::of)
            }
        )+}
    };
}

macro_rules! renamed {
    ($($old:ident $new:ident $note:literal -> $kind:ty;)+) => {
        impl<C, S: Shape, K: Number> Tensor<C, S, K> {$(
            #[doc = concat!("As [`Tensor::", stringify!($new), "`].")]
            ///
            /// # Errors
            /// As there.
            #[deprecated(since = "0.2.0", note = $note)]
            #[track_caller]
            pub fn $old<A, I>(&self, axis: A) -> Result<Tensor<C, S::Replaced, $kind>>
            where
                S: ReplaceAxis<A, I, One>,
            {
                self.$new(axis)
            }
        )+}
    };
}

reduce! {
    /// The sum.
    sum sum_keepdim sum_all Sum -> K;
    /// The mean.
    mean mean_keepdim mean_all Mean -> Float;
    /// The largest entry.
    max max_keepdim max_all Max -> K;
    /// The smallest entry.
    min min_keepdim min_all Min -> K;
    /// The unbiased variance, as in PyTorch.
    var var_keepdim var_all Var -> Float;
    /// The Euclidean norm.
    norm norm_keepdim norm_all Norm -> Float;
    /// The index of the largest entry.
    argmax argmax_keepdim argmax_all ArgMax -> Int;
    /// The index of the smallest entry.
    argmin argmin_keepdim argmin_all ArgMin -> Int;
}

renamed! {
    sum_keep sum_keepdim "renamed to `sum_keepdim`" -> K;
    mean_keep mean_keepdim "renamed to `mean_keepdim`" -> Float;
    max_keep max_keepdim "renamed to `max_keepdim`" -> K;
    min_keep min_keepdim "renamed to `min_keepdim`" -> K;
    var_keep var_keepdim "renamed to `var_keepdim`" -> Float;
    norm_keep norm_keepdim "renamed to `norm_keepdim`" -> Float;
    argmax_keep argmax_keepdim "renamed to `argmax_keepdim`" -> Int;
    argmin_keep argmin_keepdim "renamed to `argmin_keepdim`" -> Int;
}

impl<C, S: Shape, K: Kind> Tensor<C, S, K> {
    #[track_caller]
    fn reduced(&self, what: &str, reduce: Reduce, axis: Option<usize>, keep: bool) -> Result<Saved> {
        computed(what, &Op::Reduce { reduce, axis, keep }, &[(self.saved(), S::NAMES)], Location::caller())
    }
}

impl<C, S: Shape, K: Number> Tensor<C, S, K> {
    /// Probabilities along an axis: `e^x / sum(e^x)`.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Words);
    /// let entries = candle_core::Tensor::new(&[0f32, 0.0], &candle_core::Device::Cpu)?;
    /// let logits = Tensor::<Dynamic, (Words,)>::new(entries)?;
    /// assert_eq!(logits.softmax(Words)?.to_vec1::<f32>()?, [0.5, 0.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn softmax<A, I>(&self, _axis: A) -> Result<Tensor<C, S, K>>
    where
        S: HasAxis<A, I>,
    {
        computed("softmax", &Op::Softmax { axis: S::POSITION, log: false }, &[(self.saved(), S::NAMES)], Location::caller()).map(Tensor::of)
    }

    /// Logarithms of probabilities along an axis.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Words);
    /// let logits = Tensor::<Dynamic, (Words,)>::new(candle_core::Tensor::new(&[3f32], &candle_core::Device::Cpu)?)?;
    /// assert_eq!(logits.log_softmax(Words)?.to_vec1::<f32>()?, [0.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn log_softmax<A, I>(&self, _axis: A) -> Result<Tensor<C, S, K>>
    where
        S: HasAxis<A, I>,
    {
        computed("log_softmax", &Op::Softmax { axis: S::POSITION, log: true }, &[(self.saved(), S::NAMES)], Location::caller()).map(Tensor::of)
    }

    /// The `k` largest entries of an axis, best first, and their indices.
    ///
    /// # Errors
    /// As [`Tensor::sum`], and if the axis has fewer than `k` entries.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Words);
    /// let entries = candle_core::Tensor::new(&[1f32, 3.0, 2.0], &candle_core::Device::Cpu)?;
    /// let logits = Tensor::<Dynamic, (Words,)>::new(entries)?;
    /// let (best, tokens) = logits.topk(Words, 2)?;
    /// assert_eq!((best.to_vec1::<f32>()?, tokens.to_vec1::<i64>()?), (vec![3.0, 2.0], vec![1, 2]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    #[allow(clippy::type_complexity)]
    pub fn topk<A, I>(&self, _axis: A, k: usize) -> Result<(Tensor<C, S::Replaced, K>, Tensor<C, S::Replaced, Int>)>
    where
        S: ReplaceAxis<A, I, Ranked>,
    {
        let (last, here) = (S::RANK - 1, Location::caller());
        let mut order = (0..S::RANK).collect::<Vec<_>>();
        order.swap(S::POSITION, last);
        let swapped = |names: &[&'static str]| order.iter().map(|&axis| names[axis]).collect::<Vec<_>>();
        let swap = |saved: &Saved, names: &[&'static str]| {
            let names_after = swapped(names).into_iter().map(String::from).collect();
            computed("topk", &Op::Permute { order: order.clone(), names: names_after }, &[(saved, names)], here)
        };
        let (input, names) = (swap(self.saved(), S::NAMES)?, swapped(S::NAMES));
        let size = self.dim(S::POSITION)?;
        if k == 0 || k > size {
            let (entries, axis) = (format!("the {k} largest"), S::NAMES[S::POSITION].to_string());
            return Err(crate::Error::OutOfRange { entries, axis, size, row: None, source_line: Some(here.into()) });
        }
        let found = |indices: bool| {
            let found = computed("topk", &Op::TopK { k, indices }, &[(&input, &names)], here)?;
            swap(&found, &swapped(S::Replaced::NAMES))
        };
        Ok((Tensor::of(found(false)?), Tensor::of(found(true)?)))
    }
}

impl<C, S: Shape> Tensor<C, S> {
    /// The dot product with another tensor along an axis, which is then gone.
    ///
    /// # Shapes
    /// The other has the same shape, a suffix of it, or `One` in place of an axis.
    ///
    /// # Errors
    /// As [`Tensor::sum`], and if sizes do not fit.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let new = |entries: &[f32]| Tensor::<Dynamic, (Width,)>::new(candle_core::Tensor::new(entries, &candle_core::Device::Cpu)?);
    /// let (a, b) = (new(&[3.0, 4.0])?, new(&[1.0, 2.0])?);
    /// assert_eq!(a.dot(&b, Width)?.to_scalar::<f32>()?, 11.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn dot<A, I, D, R: Shape, L>(&self, other: &Tensor<D, R, L>, _axis: A) -> Result<Tensor<C, S::Removed>>
    where
        S: HasAxis<A, I> + BroadcastFrom<R>,
        D: SameModel<C>,
        L: Kind + SameKind<Float>,
    {
        dot("dot", self.saved(), S::NAMES, other.saved(), R::NAMES, S::POSITION, Location::caller()).map(Tensor::of)
    }

    /// The cosine of the angle to another tensor along an axis, which is then gone: the dot product divided by both norms, 0 if one of them is
    /// 0.
    ///
    /// # Shapes
    /// As [`Tensor::dot`].
    ///
    /// # Errors
    /// As [`Tensor::dot`].
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let new = |entries: &[f32]| Tensor::<Dynamic, (Width,)>::new(candle_core::Tensor::new(entries, &candle_core::Device::Cpu)?);
    /// let (a, b) = (new(&[3.0, 0.0])?, new(&[2.0, 0.0])?);
    /// assert_eq!(a.cosine(&b, Width)?.to_scalar::<f32>()?, 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn cosine<A, I, D, R: Shape, L>(&self, other: &Tensor<D, R, L>, _axis: A) -> Result<Tensor<C, S::Removed>>
    where
        S: HasAxis<A, I> + BroadcastFrom<R>,
        D: SameModel<C>,
        L: Kind + SameKind<Float>,
    {
        let here = Location::caller();
        let unit = |saved: &Saved, names: &'static [&'static str], axis: usize| {
            let norm = computed("cosine", &Op::Reduce { reduce: Reduce::Norm, axis: Some(axis), keep: true }, &[(saved, names)], here)?;
            // A vector of zeros has no direction.
            let least = f64::from(f32::MIN_POSITIVE);
            let norm = computed("cosine", &Op::Unary(crate::graph::Unary::Clamp(least, f64::from(f32::MAX))), &[(&norm, names)], here)?;
            let named = (0..names.len()).map(|index| if index == axis { "One" } else { names[index] }).collect::<Vec<_>>();
            computed("cosine", &Op::Binary(Binary::Div), &[(saved, names), (&norm, &named)], here)
        };
        let (a, b) = (self.saved().wide()?, other.saved().wide()?);
        let a = unit(&a, S::NAMES, S::POSITION)?;
        let b = match (S::POSITION + R::RANK).checked_sub(S::RANK) {
            Some(axis) => unit(&b, R::NAMES, axis)?,
            None => b,
        };
        let cosine = dot("cosine", &a, S::NAMES, &b, R::NAMES, S::POSITION, here)?;
        cosine.to_type(self.dtype()).map(Tensor::of)
    }
}

fn dot(what: &str, a: &Saved, a_names: &[&str], b: &Saved, b_names: &[&str], axis: usize, here: Here) -> Result<Saved> {
    check_sizes(what, (a, a_names), (b, b_names), here)?;
    // Products of 16 bits are added up before they are rounded.
    let dtype = a.dtype();
    let product = computed(what, &Op::Binary(Binary::Mul), &[(&a.wide()?, a_names), (&b.wide()?, b_names)], here)?;
    computed(what, &Op::Reduce { reduce: Reduce::Sum, axis: Some(axis), keep: false }, &[(&product, a_names)], here)?.to_type(dtype)
}
