//! A list of layers.

use std::marker::PhantomData;
use std::ops::Index;

use super::Tracer;
use crate::Error;
use crate::types::HasLayer;

/// The layers of a model, each with its sites.
///
/// A literal index is checked by the compiler (`model.layers[30]` on 30 layers does not compile), any other when the trace is built.
/// Negative indices count from the end.
pub struct Layers<'t, C, T> {
    tracer: &'t Tracer,
    /// The first site of the first layer.
    first: usize,
    /// The layers, and one more that stands for those which do not exist.
    items: &'t [T],
    marker: PhantomData<fn() -> C>,
}

impl<C, T> Clone for Layers<'_, C, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, T> Copy for Layers<'_, C, T> {}

impl<C, T> std::fmt::Debug for Layers<'_, C, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} layers", self.len())
    }
}

impl<'t, C, T> Layers<'t, C, T> {
    pub(crate) fn new(tracer: &'t Tracer, first: usize, items: &'t [T]) -> Self {
        Layers { tracer, first, items, marker: PhantomData }
    }

    /// The number of layers.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.items.len() - 1
    }

    /// The layers from the first to the last.
    pub fn iter(&self) -> std::slice::Iter<'t, T> {
        self.items[..self.len()].iter()
    }

    /// A layer; negative indices count from the end. One that does not exist makes the trace fail with this line.
    #[track_caller]
    pub fn layer(&self, index: impl super::index::Index) -> &'t T {
        let index = index.index();
        let layers = self.len() as i64;
        let position = if index < 0 { index + layers } else { index };
        if (0..layers).contains(&position) {
            return &self.items[position as usize];
        }
        self.refuse(index);
        &self.items[self.len()]
    }
}

impl<'t, C, T> Layers<'t, C, T> {
    /// Some layers one after the other: `model.layers[5..10]`; negative ends count from the end. Where one does not exist, the trace fails with
    /// this line.
    #[track_caller]
    fn range<I: super::index::Index + Copy>(&self, range: impl std::ops::RangeBounds<I>) -> &'t [T] {
        use std::ops::Bound;
        let layers = self.len() as i64;
        let position = |index: I| {
            let index = index.index();
            if index < 0 { index + layers } else { index }
        };
        let start = match range.start_bound() {
            Bound::Included(&start) => position(start),
            Bound::Excluded(&start) => position(start) + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => position(end) + 1,
            Bound::Excluded(&end) => position(end),
            Bound::Unbounded => layers,
        };
        if (0..=layers).contains(&start) && (0..=layers).contains(&end) && start <= end {
            return &self.items[start as usize..end as usize];
        }
        let missing = if (0..=layers).contains(&start) { end - 1 } else { start };
        self.refuse(missing);
        &[]
    }

    /// The layer of an index that is written as a number, which the compiler checks.
    #[doc(hidden)]
    #[track_caller]
    pub fn __layer<const I: isize>(&self) -> &'t T
    where
        C: HasLayer<I>,
    {
        self.layer(I)
    }

    /// Has the compiler check such an index.
    #[doc(hidden)]
    pub fn __check<const I: isize>(&self)
    where
        C: HasLayer<I>,
    {
    }

    #[track_caller]
    fn refuse(&self, index: i64) {
        let path = self.tracer.table().sites().get(self.first).map(|site| site.path.as_str()).unwrap_or_default();
        let path = path.rsplit_once(".0.").map_or(path, |(list, _)| list).to_string();
        self.tracer.fail(|source_line| Error::NoLayer { path, index, layers: self.len(), source_line });
    }
}

impl<'t, C, T> IntoIterator for Layers<'t, C, T> {
    type Item = &'t T;
    type IntoIter = std::slice::Iter<'t, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<C, T, I: super::index::Index> Index<I> for Layers<'_, C, T> {
    type Output = T;
    #[track_caller]
    fn index(&self, index: I) -> &T {
        self.layer(index)
    }
}

macro_rules! ranges {
    ($($range:ident),+) => {$(
        impl<C, T, I: super::index::Index + Copy> Index<std::ops::$range<I>> for Layers<'_, C, T> {
            type Output = [T];
            #[track_caller]
            fn index(&self, range: std::ops::$range<I>) -> &[T] {
                self.range(range)
            }
        }
    )+};
}
ranges!(Range, RangeFrom, RangeTo, RangeInclusive);

impl<C, T> Index<std::ops::RangeFull> for Layers<'_, C, T> {
    type Output = [T];
    fn index(&self, _all: std::ops::RangeFull) -> &[T] {
        &self.items[..self.len()]
    }
}

/// Numbers as indices into everything that is no list of layers: there is nothing to check.
#[doc(hidden)]
pub trait PlainList {
    fn __layer<const I: isize>(&self) -> &<Self as Index<usize>>::Output
    where
        Self: Index<usize>,
    {
        const { assert!(I >= 0, "only the layers of a model are counted from the end") };
        &self[I as usize]
    }
    fn __check<const I: isize>(&self) {}
}
impl<T: ?Sized> PlainList for T {}
