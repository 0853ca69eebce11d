//! A tensor outside a trace, with its model, shape and kind.

use std::marker::PhantomData;
use std::ops::{Bound, Deref, RangeBounds};
use std::panic::Location;

use candle_core::shape::Dim;
use candle_core::{DType, Device, Tensor as Candle};

use super::{Batch, DimName, Float, HasAxis, Kind, Part, ReplaceAxis, Saved, Shape, ShapeOf};
use crate::graph::kind_of;
use crate::{Error, Result};

/// A tensor of the model `C` with the shape `S` and the kind `K`; what a trace gives back, and what may be put into one.
///
/// Axes are named outside of a trace as they are inside, and arithmetic is candle's: `(&love - &hate)?`.
///
/// It derefs to [`candle_core::Tensor`], for everything else that can be done with one.
///
/// # Rows of different lengths
/// Prompts of different lengths stand in one tensor, and so do texts that ended one by one. The tensor knows the length of each row.
/// Position 0 is every row's first and -1 its last; [`Tensor::rows`] and `.at(Batch, row)` give rows without padding. What would mix padding
/// in is refused.
///
/// # Panics
/// Dereferencing panics if rows differ in length: candle would take padding for entries. [`Tensor::whole`] returns an error in its place,
/// [`Tensor::padded`] the entries as they are. Generated tokens deref nevertheless: texts that ended early go on with the token that ended
/// them.
///
/// # Examples
/// ```no_run
/// use nnsight_core::types::{Batch, Dynamic, Tensor};
/// # nnsight_core::position_dims!(Time = Position);
/// # nnsight_core::model_dims!(Width);
/// # fn trace() -> Tensor<Dynamic, (Batch, Time, Width)> { unimplemented!() }
/// // A prompt of 9 tokens and one of 4.
/// let h = trace();
/// println!("{h:?}"); // Tensor(Batch, Time, Width: [2, 9, 576], Time of each row: [9, 4])
/// let first = h.at(Time, 0); // of each prompt
/// for row in h.rows()? {
///     println!("{:?}", row.mean(Time)?); // Tensor(Width: [576])
/// }
/// assert!(h.mean(Time).is_err());
/// # Ok::<(), nnsight_core::Error>(())
/// ```
pub struct Tensor<C, S, K = Float> {
    saved: Saved,
    marker: PhantomData<fn() -> (C, S, K)>,
}

impl<C, S, K> Clone for Tensor<C, S, K> {
    fn clone(&self) -> Self {
        Tensor::of(self.saved.clone())
    }
}

impl<C, S, K> Deref for Tensor<C, S, K> {
    type Target = Candle;
    #[track_caller]
    fn deref(&self) -> &Candle {
        &self.saved
    }
}

impl<C, S: Shape, K> std::fmt::Debug for Tensor<C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({}: {:?}", S::NAMES.join(", "), self.saved.dims())?;
        if let Some(extents) = self.saved.extents() {
            for (axis, spans) in &extents.axes {
                let lengths = spans.iter().map(|span| span.len).collect::<Vec<_>>();
                write!(f, ", {} of each row: {lengths:?}", S::NAMES.get(*axis).unwrap_or(&"_"))?;
            }
            let ended = extents.present.iter().enumerate().filter(|(_, present)| !**present).map(|(row, _)| row).collect::<Vec<_>>();
            if !ended.is_empty() {
                write!(f, ", rows that had ended: {ended:?}")?;
            }
        }
        f.write_str(")")
    }
}

impl<C, S: Shape, K> std::fmt::Display for Tensor<C, S, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.saved.extents().is_some() {
            writeln!(f, "{self:?}")?;
        }
        std::fmt::Display::fmt(&self.saved, f)
    }
}

impl<C, S, K> Tensor<C, S, K> {
    /// Types what a run returned.
    pub(crate) fn of(saved: Saved) -> Self {
        Tensor { saved, marker: PhantomData }
    }

    pub(crate) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The candle tensor itself.
    ///
    /// # Panics
    /// If rows differ in length, as dereferencing does.
    #[track_caller]
    pub fn into_inner(self) -> Candle {
        (*self.saved).clone()
    }

    /// The candle tensor, if all rows reach equally far.
    ///
    /// # Errors
    /// [`Error::RowsDiffer`] or [`Error::RowEnded`] if candle would take padding for entries.
    #[track_caller]
    pub fn whole(&self) -> Result<&Candle> {
        self.saved.whole()
    }

    /// The entries as the model held them if rows differ in length: shorter rows are padded on the left, and what is there is no row's
    /// own. [`Tensor::lengths`] says where each begins.
    pub fn padded(&self) -> &Candle {
        self.saved.padded()
    }

    /// The same rows with other entries, computed from [`Tensor::padded`] with candle.
    ///
    /// # Errors
    /// [`Error::TensorShape`] if the sizes are others.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let entries = candle_core::Tensor::new(&[0f32, 1.0], &candle_core::Device::Cpu)?;
    /// let h = Tensor::<Dynamic, (Width,)>::new(entries)?;
    /// let sines = h.with_padded(h.padded().sin()?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn with_padded(&self, entries: Candle) -> Result<Self> {
        if entries.dims() != self.dims() {
            return Err(Error::TensorShape {
                expected: format!("{:?}", self.dims()),
                found: entries.dims().to_vec(),
                source_line: Some(Location::caller().into()),
            });
        }
        Ok(Tensor::of(Saved::computed(entries, self.saved.extents().cloned())))
    }

    /// The numbers of entries of the rows, if they differ.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let zeros = candle_core::Tensor::zeros(576, candle_core::DType::F32, &candle_core::Device::Cpu)?;
    /// assert_eq!(Tensor::<Dynamic, (Width,)>::new(zeros)?.lengths(), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lengths(&self) -> Option<Vec<usize>> {
        self.saved.lengths()
    }

    /// The sizes of the axes, those of the longest row if rows differ.
    pub fn dims(&self) -> &[usize] {
        self.saved.dims()
    }

    /// The size of an axis, that of the longest row if rows differ.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn dim<D: Dim>(&self, axis: D) -> candle_core::Result<usize> {
        self.saved.dim(axis)
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.saved.rank()
    }

    /// The type of the entries.
    pub fn dtype(&self) -> DType {
        self.saved.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.saved.device()
    }
}

impl<C, S: ShapeOf<C>, K: Kind> Tensor<C, S, K> {
    /// Gives a tensor its type.
    ///
    /// # Errors
    /// [`Error::TensorShape`] where the rank or a size differs from what the signature says, [`Error::TensorKind`] where the entries
    /// are of another kind.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let zeros = candle_core::Tensor::zeros(576, candle_core::DType::F32, &candle_core::Device::Cpu)?;
    /// let direction = Tensor::<Dynamic, (Width,)>::new(zeros)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn new(inner: Candle) -> Result<Self> {
        Tensor::typed(inner.into(), Location::caller())
    }

    fn typed(saved: Saved, place: &'static Location<'static>) -> Result<Self> {
        let place = || Some(place.into());
        let axes = S::axes();
        let found = saved.dims();
        let fits = axes.len() == found.len() && axes.iter().zip(found).all(|(axis, &found)| axis.size.is_none_or(|size| size == found));
        if !fits {
            let expected = axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::TensorShape { expected: format!("({expected})"), found: found.to_vec(), source_line: place() });
        }
        if kind_of(saved.dtype()) != K::TAG {
            return Err(Error::TensorKind { expected: K::TAG.name(), found: saved.dtype().as_str(), source_line: place() });
        }
        Ok(Tensor::of(saved))
    }

    /// Says that the tensor is meant for another checkpoint, whose sizes it has.
    ///
    /// # Errors
    /// As [`Tensor::new`].
    #[track_caller]
    pub fn to_signature<D>(&self) -> Result<Tensor<D, S, K>>
    where
        S: ShapeOf<D>,
    {
        Tensor::typed(self.saved.clone(), Location::caller())
    }
}

impl<C, S: Shape, K> Tensor<C, S, K> {
    /// One entry of an axis; negative indices count from the end. The axis is gone from the result. If rows differ in length, 0 is each
    /// row's first entry and -1 its last, and `.at(Batch, row)` is the row without padding.
    ///
    /// # Panics
    /// Where the index is out of range, as indexing a slice does: for any of the rows, if they differ, or for a row that had ended.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::position_dims!(Time = Position);
    /// # nnsight_core::model_dims!(Width);
    /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
    /// let h = Tensor::<Dynamic, (Time, Width)>::new(entries)?;
    /// assert_eq!(h.at(Time, -1).to_vec1::<f32>()?, [3.0, 4.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn at<A, I>(&self, _axis: A, index: i64) -> Tensor<C, S::Removed, K>
    where
        S: HasAxis<A, I>,
    {
        match self.saved.at(S::NAMES, S::POSITION, index) {
            Ok(entry) => Tensor::of(entry),
            Err(error) => panic!("{error}"),
        }
    }

    /// A range of an axis: `2..5`, `..-1`, `3..`. If rows differ in length, it is counted in each of them.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] if one of the rows does not reach that far.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Tensor};
    /// # nnsight_core::position_dims!(Time = Position);
    /// # nnsight_core::model_dims!(Width);
    /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
    /// let h = Tensor::<Dynamic, (Time, Width)>::new(entries)?;
    /// assert_eq!(h.slice(Time, 1..)?.to_vec2::<f32>()?, [[3.0, 4.0]]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn slice<A: DimName, I>(&self, _axis: A, range: impl RangeBounds<i64>) -> Result<Tensor<C, S::Replaced, K>>
    where
        S: ReplaceAxis<A, I, Part<A>>,
    {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            // One past the last entry is the end, not entry 0.
            Bound::Included(&-1) | Bound::Unbounded => None,
            Bound::Included(&end) => Some(end.saturating_add(1)),
            Bound::Excluded(&end) => Some(end),
        };
        self.saved.slice(S::NAMES, S::POSITION, start, end).map(Tensor::of)
    }

    /// Another name for an axis.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Dynamic, Part, Tensor};
    /// # nnsight_core::position_dims!(Time = Position);
    /// # nnsight_core::model_dims!(Width);
    /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
    /// let h = Tensor::<Dynamic, (Time, Width)>::new(entries)?;
    /// let first: Tensor<Dynamic, (Time, Width)> = h.slice(Time, ..1)?.rename(Part(Time), Time);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rename<A, I, N: DimName>(&self, _axis: A, _name: N) -> Tensor<C, S::Replaced, K>
    where
        S: ReplaceAxis<A, I, N>,
    {
        Tensor::of(self.saved.clone())
    }

    /// The rows of the batch one by one, each without padding.
    ///
    /// # Errors
    /// [`Error::RowEnded`] if one of the texts had ended before this step; [`Tensor::present`] lists the others.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Batch, Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
    /// for row in Tensor::<Dynamic, (Batch, Width)>::new(entries)?.rows()? {
    ///     println!("{row:?}"); // Tensor(Width: [2])
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn rows<I>(&self) -> Result<Vec<Tensor<C, S::Removed, K>>>
    where
        S: HasAxis<Batch, I>,
    {
        let mut rows = Vec::new();
        for row in 0..self.dim(S::POSITION)? {
            rows.push(Tensor::of(self.saved.at(S::NAMES, S::POSITION, row as i64)?));
        }
        Ok(rows)
    }

    /// The rows that take part: all of them, but at a step of a generation those whose text had not ended before.
    ///
    /// # Examples
    /// ```
    /// use nnsight_core::types::{Batch, Dynamic, Tensor};
    /// # nnsight_core::model_dims!(Width);
    /// let entries = candle_core::Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &candle_core::Device::Cpu)?;
    /// let h = Tensor::<Dynamic, (Batch, Width)>::new(entries)?;
    /// for row in h.present() {
    ///     println!("{row}: {:?}", h.at(Batch, row as i64));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn present<I>(&self) -> Vec<usize>
    where
        S: HasAxis<Batch, I>,
    {
        self.saved.present(S::POSITION)
    }
}
