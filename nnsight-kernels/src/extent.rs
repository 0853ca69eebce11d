//! A part of a tensor, as ranges of entries of its axes.

use candle_core::{Result, Tensor, bail};

/// Entries of an axis that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first entry.
    pub start: usize,
    /// How many entries.
    pub len: usize,
}

/// The entries `span` of the axis `axis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The axis.
    pub axis: usize,
    /// Its entries.
    pub span: Span,
}

/// The part of `base` that the extents describe one after the other, as a view.
///
/// # Errors
/// If an extent is outside of `base`.
pub fn part(base: &Tensor, extents: &[Extent]) -> Result<Tensor> {
    extents.iter().try_fold(base.clone(), |part, extent| part.narrow(extent.axis, extent.span.start, extent.span.len))
}

/// The sizes of the [`part`] of a tensor with the sizes `dims`.
///
/// # Errors
/// If an extent is outside of the tensor.
pub fn part_dims(dims: &[usize], extents: &[Extent]) -> Result<Vec<usize>> {
    let mut sizes = dims.to_vec();
    for Extent { axis, span } in extents {
        match sizes.get_mut(*axis) {
            Some(size) if span.start.checked_add(span.len).is_some_and(|end| end <= *size) => *size = span.len,
            _ => bail!("entries {}..{} of axis {axis} are outside of a tensor of shape {dims:?}", span.start, span.start.saturating_add(span.len)),
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn the_sizes_of_a_part_are_those_of_its_view() {
        let x = Tensor::zeros((4, 5), DType::F32, &Device::Cpu).unwrap();
        let at = |axis, start, len| Extent { axis, span: Span { start, len } };
        for extents in [vec![], vec![at(1, 2, 3)], vec![at(0, 1, 2), at(1, 0, 5), at(0, 1, 1)]] {
            assert_eq!(part_dims(x.dims(), &extents).unwrap(), part(&x, &extents).unwrap().dims());
        }
        for extents in [vec![at(1, 3, 3)], vec![at(2, 0, 1)], vec![at(0, 0, 2), at(0, 1, 2)], vec![at(0, usize::MAX, 2)]] {
            assert!(part_dims(x.dims(), &extents).is_err(), "{extents:?}");
        }
    }
}
