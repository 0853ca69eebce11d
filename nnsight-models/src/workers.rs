//! The threads that share the products of a pass.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many passes are running.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Threads that are kept awake at most: a pass over few positions has no work for more.
const AWAKE: usize = 8;

/// Runs a pass on one of the threads that share its products, and keeps the others awake: a pass over few positions hands them work a hundred
/// times, and waking them costs as much as the work. They are let go where another pass begins, which then needs them.
pub fn among_workers<T: Send>(pass: impl FnOnce() -> T + Send) -> T {
    struct Running<'a>(&'a AtomicBool);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
            RUNNING.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let alone = RUNNING.fetch_add(1, Ordering::AcqRel) == 0;
        let running = Running(&done);
        if alone {
            let here = rayon::current_thread_index();
            let done = &done;
            scope.spawn_broadcast(move |_, thread| {
                let awake = thread.index() < AWAKE && Some(thread.index()) != here;
                while awake && !done.load(Ordering::Acquire) && RUNNING.load(Ordering::Acquire) == 1 {
                    if rayon::yield_now() != Some(rayon::Yield::Executed) {
                        std::hint::spin_loop();
                    }
                }
            });
        }
        let result = pass();
        drop(running);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    fn sum(count: u64) -> u64 {
        (0..count).into_par_iter().map(|number| number % 7).sum()
    }

    #[test]
    fn passes_beside_and_within_each_other_end() {
        let expected = sum(10_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        assert_eq!(among_workers(|| among_workers(|| sum(10_000)) + sum(10_000)), 2 * expected);
                    }
                });
            }
        });
    }

    #[test]
    fn a_pass_that_panics_lets_the_others_go() {
        let caught = std::panic::catch_unwind(|| among_workers(|| panic!("as it were")));
        assert!(caught.is_err());
        assert_eq!(among_workers(|| sum(10)), sum(10));
    }
}
