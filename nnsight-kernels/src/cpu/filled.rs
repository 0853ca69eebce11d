//! Results whose memory is not filled with zeros first.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::SMALL;

/// Entries that something computes, `part` of them at a time: from which on, and those themselves, zero as yet. They are not filled with zeros by one
/// thread first, which takes longer than most of what is computed here.
pub fn filled(count: usize, part: usize, compute: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut result = Vec::with_capacity(count);
    let run = |(index, some): (usize, &mut [MaybeUninit<f32>])| {
        some.fill(MaybeUninit::new(0.0));
        // SAFETY: all of them were just written.
        compute(index * part, unsafe { some.assume_init_mut() });
    };
    let all = &mut result.spare_capacity_mut()[..count];
    match count <= SMALL {
        true => all.chunks_mut(part).enumerate().for_each(run),
        false => all.par_chunks_mut(part).enumerate().for_each(run),
    }
    // SAFETY: the capacity is `count` at least, and the parts are all of the first `count` entries, each of which `run` has written. If it panics,
    // this is not reached.
    unsafe { result.set_len(count) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_computed_once_by_one_thread_or_many() {
        for (count, part) in [(0, 1), (1, 4), (7, 3), (64, 64), (SMALL + 5, 1000)] {
            let found = filled(count, part, |first, part| part.iter_mut().enumerate().for_each(|(index, entry)| *entry += (first + index) as f32));
            assert!(found.len() == count && found.iter().enumerate().all(|(index, entry)| *entry == index as f32), "{count} {part}");
        }
    }

    #[test]
    fn a_panic_leaves_nothing_that_was_not_computed() {
        let caught = std::panic::catch_unwind(|| filled(8, 2, |first, _| assert!(first < 4, "as it were")));
        assert!(caught.is_err());
    }
}
