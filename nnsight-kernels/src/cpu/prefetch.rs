//! Asking memory for what will be read soon.

/// Bytes between what is read and what the nearer cache is asked for.
const NEAR: usize = 1024;

/// Pages of memory that the farther cache is asked for side by side, those after the ones that are being read. By itself the processor asks for
/// what comes next in a page, some lines ahead of each: in one page alone that is too little to keep memory busy while it multiplies.
const PAGES: usize = 8;

const PAGE: usize = 4096;

/// Asks for weights that will be read soon.
#[inline(always)]
pub fn prefetch<T>(weights: &[T]) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        let start = weights.as_ptr().cast::<i8>();
        let (address, all) = (start.addr(), PAGES * PAGE);
        // Lines that follow each other are asked for in pages that follow each other.
        let line = address / 64 % (all / 64);
        let far = all - address % all + line % PAGES * PAGE + line / PAGES * 64;
        for at in 0..size_of_val(weights) / 64 {
            // SAFETY: a prefetch reads nothing: any address may be asked for.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(NEAR + at * 64));
                _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(far + at * PAGE));
            }
        }
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = weights;
}
