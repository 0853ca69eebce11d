//! Writing into a part of a tensor: one pass over the part.

use candle_core::Layout;

/// A box of entries of a tensor.
pub struct Part<'a> {
    /// Along each axis, the first entry.
    pub starts: &'a [usize],
    /// Along each axis, how many entries.
    pub sizes: &'a [usize],
}

impl Part<'_> {
    /// Copies the entries of `source` from `from` on, which follow each other, into the box. The last axis of the target has the stride 1.
    pub fn copy<T: Copy>(&self, target: &mut [T], layout: &Layout, source: &[T], from: usize) {
        let strides = layout.stride();
        let rank = self.sizes.len();
        let run = self.sizes.last().copied().unwrap_or(1);
        let runs = self.sizes[..rank.saturating_sub(1)].iter().product::<usize>();
        let corner = self.starts.iter().zip(strides).map(|(start, stride)| start * stride).sum::<usize>();
        for index in 0..runs {
            let mut rest = index;
            let mut offset = layout.start_offset() + corner;
            for axis in (0..rank.saturating_sub(1)).rev() {
                offset += rest % self.sizes[axis] * strides[axis];
                rest /= self.sizes[axis];
            }
            target[offset..offset + run].copy_from_slice(&source[from + index * run..from + (index + 1) * run]);
        }
    }
}
