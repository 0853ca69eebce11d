//! Column blocks of a matrix in row-major order, one for each task.

use std::marker::PhantomData;

/// Some columns of rows that follow each other in memory.
pub struct Columns<'a, T> {
    first: *mut T,
    /// Entries between the starts of two rows.
    stride: usize,
    rows: usize,
    width: usize,
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `&mut [T]`: `of` borrows the entries for `'a`, and no two blocks have one in common.
unsafe impl<T: Send> Send for Columns<'_, T> {}

impl<'a, T> Columns<'a, T> {
    /// All columns of rows with `stride` entries each, `width` of them at a time.
    pub fn of(whole: &'a mut [T], stride: usize, width: usize) -> impl Iterator<Item = Columns<'a, T>> {
        assert!(stride > 0 && width > 0 && whole.len().is_multiple_of(stride), "{} entries in rows of {stride}, {width} each", whole.len());
        let (start, rows) = (whole.as_mut_ptr(), whole.len() / stride);
        (0..stride).step_by(width).map(move |first| Columns {
            first: start.wrapping_add(first),
            stride,
            rows,
            width: width.min(stride - first),
            whole: PhantomData,
        })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Their entries in a row.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: `of` borrowed `rows * stride` entries for `'a`, and `first + row * stride + width` is within them: `row < rows` was just checked, and
        // `of` makes `first + width <= stride`. Its blocks have no entry in common, and `&mut self` lends one row of this block at a time.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.width) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn they_are_all_entries_once() {
        let mut whole = vec![0; 5 * 7];
        let parts = Columns::of(&mut whole, 7, 3).collect::<Vec<_>>();
        assert_eq!(parts.iter().map(|part| (part.rows(), part.width())).collect::<Vec<_>>(), [(5, 3), (5, 3), (5, 1)]);
        parts.into_par_iter().enumerate().for_each(|(index, mut part)| {
            for row in 0..5 {
                part.row(row).iter_mut().enumerate().for_each(|(at, entry)| *entry += 1 + row * 7 + index * 3 + at);
            }
        });
        assert_eq!(whole, (1..=35).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "row 2 of 2")]
    fn another_row_is_refused() {
        let mut whole = [0; 6];
        for mut part in Columns::of(&mut whole, 3, 2) {
            part.row(2);
        }
    }
}
