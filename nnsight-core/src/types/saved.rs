//! What a run returns for a value: a tensor, and which of its entries are each row's own.

use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use candle_core::shape::Dim;
use candle_core::{DType, Device, Tensor as Candle};

use crate::graph::{Extents, Span, Step};
use crate::{Error, Result};

/// What a run returns for a value: a tensor, and how far each of its rows reaches if they differ in that.
///
/// It derefs to [`candle_core::Tensor`]. [`Tensor`](super::Tensor) is this with a type, and says more.
///
/// # Panics
/// Dereferencing panics if rows differ, as candle would take padding for entries: see [`Saved::whole`].
#[derive(Clone)]
pub struct Saved {
    tensor: Candle,
    extents: Option<Arc<Extents>>,
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.tensor, f)?;
        match self.lengths() {
            Some(lengths) => write!(f, ", rows of {lengths:?}"),
            None => Ok(()),
        }
    }
}

/// Of rows that differ each by itself, without padding.
impl std::fmt::Display for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some((extents, axis)) = self.extents.as_deref().and_then(|extents| Some((extents, extents.rows?))) else {
            return std::fmt::Display::fmt(&self.tensor, f);
        };
        for (row, present) in extents.present.iter().enumerate() {
            match self.at(&[], axis, row as i64) {
                Ok(own) => writeln!(f, "row {row}:\n{}", own.tensor)?,
                Err(_) if !present => writeln!(f, "row {row} had ended")?,
                Err(error) => writeln!(f, "row {row}: {error}")?,
            }
        }
        Ok(())
    }
}

impl From<Candle> for Saved {
    fn from(tensor: Candle) -> Self {
        Saved { tensor, extents: None }
    }
}

impl Deref for Saved {
    type Target = Candle;
    #[track_caller]
    fn deref(&self) -> &Candle {
        match self.whole() {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Saved {
    /// What a run gave. Rows that are alike need no extents, and of a row that was picked only its own entries are kept.
    pub(crate) fn new(tensor: Candle, extents: Option<Extents>) -> Result<Self> {
        let Some(extents) = extents else { return Ok(tensor.into()) };
        let alike = extents.ended().is_none() && extents.axes.iter().all(|(_, spans)| spans.iter().all(|span| Some(span) == spans.first()));
        if alike {
            let own = extents.axes.iter().filter_map(|(axis, spans)| Some((*axis, *spans.first()?)));
            return Ok(narrowed(&tensor, own)?.contiguous()?.into());
        }
        Ok(Saved { tensor, extents: Some(Arc::new(extents)) })
    }

    /// With the extents of a computation, whose entries are where they were.
    pub(crate) fn computed(tensor: Candle, extents: Option<Extents>) -> Self {
        Saved { tensor, extents: extents.map(Arc::new) }
    }

    pub(crate) fn extents(&self) -> Option<&Extents> {
        self.extents.as_deref()
    }

    /// The tensor, if all its rows reach equally far. The texts of generated tokens are as long as the longest: those that end earlier go on
    /// with the token that ended them.
    ///
    /// # Errors
    /// [`Error::RowsDiffer`] or [`Error::RowEnded`] if candle would take padding for entries.
    #[track_caller]
    pub fn whole(&self) -> Result<&Candle> {
        match self.extents.as_deref() {
            Some(extents) if !extents.continued => Err(differ("a candle tensor", extents, Location::caller())),
            _ => Ok(&self.tensor),
        }
    }

    /// The tensor as the model held it, if its rows differ: shorter rows are padded on the left, and what is there is no row's own.
    pub fn padded(&self) -> &Candle {
        &self.tensor
    }

    /// The numbers of entries of the rows, if they differ.
    pub fn lengths(&self) -> Option<Vec<usize>> {
        self.extents.as_deref()?.lengths()
    }

    /// The sizes of the axes, those of the longest row if rows differ.
    pub fn dims(&self) -> &[usize] {
        self.tensor.dims()
    }

    /// The size of an axis, that of the longest row if rows differ.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn dim<D: Dim>(&self, axis: D) -> candle_core::Result<usize> {
        self.tensor.dim(axis)
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.tensor.rank()
    }

    /// The type of the entries.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.tensor.device()
    }

    /// One entry of an axis, counted in each row from its own first or last.
    #[track_caller]
    pub(crate) fn at(&self, names: &[&str], axis: usize, index: i64) -> Result<Saved> {
        let step = Step { axis: axis as u8, start: index, end: None, single: true };
        let taken = self.take(names, step)?;
        let extents = taken.extents.as_deref().map(|extents| extents.without(axis));
        let tensor = taken.tensor.squeeze(axis)?;
        let sizes = tensor.dims().iter().map(|&size| Some(size)).collect::<Vec<_>>();
        Saved::new(tensor, extents.and_then(|extents| extents.simplified(&sizes)))
    }

    /// A range of an axis, counted in each row from its own first or last.
    #[track_caller]
    pub(crate) fn slice(&self, names: &[&str], axis: usize, start: i64, end: Option<i64>) -> Result<Saved> {
        self.take(names, Step { axis: axis as u8, start, end, single: false })
    }

    #[track_caller]
    fn take(&self, names: &[&str], step: Step) -> Result<Saved> {
        let (axis, here) = (usize::from(step.axis), Location::caller());
        let outside = |row: Option<usize>, size: usize| Error::OutOfRange {
            entries: if step.single { format!("index {step}") } else { step.to_string() },
            axis: names.get(axis).copied().unwrap_or_default().to_string(),
            size,
            row,
            source_line: Some(here.into()),
        };
        let size = self.tensor.dim(axis)?;
        let span = |size: usize, row| step.resolve(size).ok_or_else(|| outside(row, size));
        let Some(extents) = self.extents.as_deref() else {
            let span = span(size, None)?;
            return Ok(self.tensor.narrow(axis, span.start, span.len)?.into());
        };
        if extents.rows == Some(axis) {
            let span = span(size, None)?;
            let kept = extents.rows_of(span);
            if let (true, Some(_)) = (step.single, kept.ended()) {
                return Err(ended("`at`", span.start, here));
            }
            return Saved::new(self.tensor.narrow(axis, span.start, span.len)?, Some(kept));
        }
        let Some((rows, own)) = extents.rows.zip(extents.along(axis)) else {
            let span = span(size, None)?;
            return Ok(Saved { tensor: self.tensor.narrow(axis, span.start, span.len)?, extents: self.extents.clone() });
        };
        let mut taken = Vec::with_capacity(own.len());
        for (row, own) in own.iter().enumerate() {
            taken.push(match span(own.len, Some(row)) {
                Ok(span) => Span { start: own.start + span.start, len: span.len },
                Err(_) if extents.present.get(row) == Some(&false) => Span { start: own.start, len: 0 },
                Err(error) => return Err(error),
            });
        }
        // Parts of different lengths are padded on the left again.
        let longest = taken.iter().map(|span| span.len).max().unwrap_or(0);
        let part = |(row, span): (usize, &Span)| {
            let part = self.tensor.narrow(rows, row, 1)?.narrow(axis, span.start, span.len)?;
            if span.len == longest { Ok(part) } else { part.pad_with_zeros(axis, longest - span.len, 0) }
        };
        let tensor = match taken.iter().all(|span| Some(span) == taken.first()) {
            true => narrowed(&self.tensor, taken.first().map(|span| (axis, *span)).into_iter())?,
            false => Candle::cat(&taken.iter().enumerate().map(part).collect::<candle_core::Result<Vec<_>>>()?, rows)?,
        };
        let mut kept = extents.clone();
        let spans: Vec<_> = taken.iter().map(|span| Span { start: longest - span.len, len: span.len }).collect();
        kept.axes.iter_mut().filter(|(other, _)| *other == axis).for_each(|(_, own)| own.clone_from(&spans));
        let sizes = tensor.dims().iter().map(|&size| Some(size)).collect::<Vec<_>>();
        Ok(Saved::computed(tensor, kept.simplified(&sizes)))
    }

    /// Every entry times a number, and another number added. Entries of 16 bits are rounded once.
    pub(crate) fn affine(&self, factor: f64, summand: f64) -> Result<Saved> {
        let dtype = self.dtype();
        let tensor = self.wide()?.tensor.affine(factor, summand)?.to_dtype(dtype)?;
        Ok(Saved { tensor, extents: self.extents.clone() })
    }

    /// With entries of at least 32 bits.
    pub(crate) fn wide(&self) -> Result<Saved> {
        match self.dtype() {
            DType::BF16 | DType::F16 => self.to_type(DType::F32),
            _ => Ok(self.clone()),
        }
    }

    /// With entries of another type.
    pub(crate) fn to_type(&self, dtype: DType) -> Result<Saved> {
        Ok(Saved { tensor: self.tensor.to_dtype(dtype)?, extents: self.extents.clone() })
    }

    /// Values side by side along new outermost axes, so that the result has the sizes `dims`. Those of different lengths become rows.
    pub(crate) fn stacked(values: &[Saved], dims: &[usize]) -> Result<Saved> {
        let Some(first) = values.first() else { return Err(Error::NoPoints { source_line: None }) };
        let (new, sizes) = (dims.len(), first.dims());
        let shape = dims.iter().chain(sizes).copied().collect::<Vec<_>>();
        let rank_differs = values.iter().any(|value| value.rank() != first.rank());
        let Some(other) = values.iter().find(|value| value.dims() != sizes || value.extents != first.extents) else {
            let tensors = values.iter().map(Saved::padded).collect::<Vec<_>>();
            let extents = first.extents.as_deref().map(|extents| extents.inside(new));
            return Ok(Saved::computed(Candle::stack(&tensors, 0)?.reshape(shape)?, extents));
        };
        if new != 1 || rank_differs || values.iter().any(|value| value.extents.is_some()) {
            return Err(Error::PointsDiffer { first: sizes.to_vec(), other: other.dims().to_vec(), source_line: None });
        }
        let (mut axes, mut padded) = (Vec::new(), values.iter().map(|value| value.tensor.clone()).collect::<Vec<_>>());
        for axis in 0..first.rank() {
            let lengths = padded.iter().map(|value| value.dim(axis)).collect::<candle_core::Result<Vec<_>>>()?;
            let longest = lengths.iter().copied().max().unwrap_or(0);
            if lengths.iter().all(|&length| length == longest) {
                continue;
            }
            for (value, &length) in padded.iter_mut().zip(&lengths) {
                *value = value.pad_with_zeros(axis, longest - length, 0)?;
            }
            axes.push((axis + 1, lengths.iter().map(|&length| Span { start: longest - length, len: length }).collect()));
        }
        Ok(Saved::computed(Candle::stack(&padded, 0)?, Some(Extents::new(0, axes, vec![true; values.len()]))))
    }

    /// The rows that take part, without padding and by their numbers, if they differ.
    pub(crate) fn own_rows(&self) -> Result<Option<Vec<(usize, Candle)>>> {
        let Some(axis) = self.extents.as_deref().and_then(|extents| extents.rows) else { return Ok(None) };
        let own = |row: usize| Ok((row, self.at(&[], axis, row as i64)?.padded().contiguous()?));
        self.present(axis).into_iter().map(own).collect::<Result<Vec<_>>>().map(Some)
    }

    /// The rows that had not ended before this step.
    pub(crate) fn present(&self, rows: usize) -> Vec<usize> {
        let count = self.tensor.dims().get(rows).copied().unwrap_or(0);
        (0..count).filter(|&row| self.extents.as_deref().is_none_or(|extents| extents.present.get(row) != Some(&false))).collect()
    }
}

fn narrowed(tensor: &Candle, spans: impl Iterator<Item = (usize, Span)>) -> candle_core::Result<Candle> {
    spans.into_iter().try_fold(tensor.clone(), |tensor, (axis, span)| tensor.narrow(axis, span.start, span.len))
}

/// Why something cannot be done with rows that differ.
pub(crate) fn differ(what: &str, extents: &Extents, here: &'static Location<'static>) -> Error {
    match (extents.lengths(), extents.ended()) {
        (None, Some(row)) => ended(what, row, here),
        (lengths, _) => Error::RowsDiffer { what: what.to_string(), lengths: lengths.unwrap_or_default(), source_line: Some(here.into()) },
    }
}

fn ended(what: &str, row: usize, here: &'static Location<'static>) -> Error {
    Error::RowEnded { what: what.to_string(), row, source_line: Some(here.into()) }
}
