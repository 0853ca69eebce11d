//! A list of modules: the layers of a model, the experts of a layer.

use std::marker::PhantomData;
use std::ops::Index;

use super::Tracer;
use crate::Error;
use crate::sites::Count;
use crate::types::{AllLayers, DimName, HasLayer};

/// A list of modules, each with its sites: the layers of a model, or a list that is as long as another of its sizes, `L`.
///
/// A literal index is checked by the compiler (`model.layers[30]` on 30 layers does not compile), any other when the trace is built.
/// Negative indices count from the end.
pub struct Layers<'t, C, T, L = AllLayers> {
    tracer: &'t Tracer,
    /// The list among the modules.
    list: usize,
    /// The entries, and one more in place of those which do not exist.
    items: &'t [T],
    marker: PhantomData<fn() -> (C, L)>,
}

/// How long a list is that is as long as a model's `L`. `derive(Module)` calls it.
pub fn count_of<L: DimName>() -> Count {
    Count { name: L::NAME, fixed: L::FIXED }
}

impl<C, T, L> Clone for Layers<'_, C, T, L> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C, T, L> Copy for Layers<'_, C, T, L> {}

impl<C, T, L: DimName> std::fmt::Debug for Layers<'_, C, T, L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.len(), words(L::NAME))
    }
}

impl<'t, C, T, L: DimName> Layers<'t, C, T, L> {
    pub(crate) fn new(tracer: &'t Tracer, list: usize, items: &'t [T]) -> Self {
        Layers { tracer, list, items, marker: PhantomData }
    }

    /// The number of entries.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.items.len() - 1
    }

    /// The entries from the first to the last.
    pub fn iter(&self) -> std::slice::Iter<'t, T> {
        self.items[..self.len()].iter()
    }

    /// An entry; negative indices count from the end. One that does not exist makes the trace fail with this line.
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

    /// Some entries one after the other: `model.layers[5..10]`; negative ends count from the end. Where one does not exist, the trace fails with
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

    /// The entry of an index that is written as a number, which the compiler checks.
    #[doc(hidden)]
    #[track_caller]
    pub fn __layer<const I: isize>(&self) -> &'t T
    where
        C: HasLayer<I, L::Listed>,
    {
        self.layer(I)
    }

    /// Has the compiler check such an index.
    #[doc(hidden)]
    pub fn __check<const I: isize>(&self)
    where
        C: HasLayer<I, L::Listed>,
    {
    }

    #[track_caller]
    fn refuse(&self, index: i64) {
        let path = self.tracer.table().modules().get(self.list).map(|list| list.path.clone()).unwrap_or_default();
        self.tracer.fail(|source_line| Error::NoLayer { path, index, layers: self.len(), of: words(L::NAME), source_line });
    }
}

impl<'t, C, T, L: DimName> IntoIterator for Layers<'t, C, T, L> {
    type Item = &'t T;
    type IntoIter = std::slice::Iter<'t, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<C, T, L: DimName, I: super::index::Index> Index<I> for Layers<'_, C, T, L> {
    type Output = T;
    #[track_caller]
    fn index(&self, index: I) -> &T {
        self.layer(index)
    }
}

macro_rules! ranges {
    ($($range:ident),+) => {$(
        impl<C, T, L: DimName, I: super::index::Index + Copy> Index<std::ops::$range<I>> for Layers<'_, C, T, L> {
            type Output = [T];
            #[track_caller]
            fn index(&self, range: std::ops::$range<I>) -> &[T] {
                self.range(range)
            }
        }
    )+};
}
ranges!(Range, RangeFrom, RangeTo, RangeInclusive);

impl<C, T, L: DimName> Index<std::ops::RangeFull> for Layers<'_, C, T, L> {
    type Output = [T];
    fn index(&self, _all: std::ops::RangeFull) -> &[T] {
        &self.items[..self.len()]
    }
}

/// What a list is of, as a sentence has it: `DecoderLayers` is "decoder layers".
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
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
