//! The thread pool of a forward pass.
//!
//! It is rayon's global pool, which lasts as long as the process. A process that was forked after a trace has none of its threads: its first
//! trace would wait for threads that do not exist. Start other programs with [`std::process::Command`], which forks and executes at once, and
//! fork by hand only before the first trace, or not at all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many passes are running.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Threads that spin at most: a pass over few positions has no work for more.
const AWAKE: usize = 8;

/// How long a pass waits for them to be awake.
const PATIENCE: Duration = Duration::from_micros(100);

/// Runs a pass on a thread of the pool while the others spin, up to eight of them: a pass over few positions hands them work a hundred times, and
/// waking them costs as much as the work. Threads spin between products; they stop spinning when a second pass starts, which then needs them.
pub fn with_hot_pool<T: Send>(pass: impl FnOnce() -> T + Send) -> T {
    struct Running<'a>(&'a AtomicBool);
    impl Drop for Running<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
            RUNNING.fetch_sub(1, Ordering::AcqRel);
        }
    }
    let (has_begun, is_done, awake) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    rayon::scope(|scope| {
        let alone = RUNNING.fetch_add(1, Ordering::AcqRel) == 0;
        let running = Running(&is_done);
        if alone {
            let here = rayon::current_thread_index();
            let is_wanted = move |thread: usize| thread < AWAKE && Some(thread) != here;
            let (has_begun, is_done, awake) = (&has_begun, &is_done, &awake);
            scope.spawn_broadcast(move |_, thread| {
                // A thread that comes to this once the pass has begun may do so in the middle of a part of it, for which the pass would then
                // wait as this does for the pass.
                if !is_wanted(thread.index()) || has_begun.load(Ordering::Acquire) {
                    return;
                }
                awake.fetch_add(1, Ordering::AcqRel);
                while !is_done.load(Ordering::Acquire) && RUNNING.load(Ordering::Acquire) == 1 {
                    if rayon::yield_now() != Some(rayon::Yield::Executed) {
                        std::hint::spin_loop();
                    }
                }
            });
            let wanted = (0..rayon::current_num_threads()).filter(|&thread| is_wanted(thread)).count();
            let start = Instant::now();
            while awake.load(Ordering::Acquire) < wanted && start.elapsed() < PATIENCE {
                std::hint::spin_loop();
            }
            has_begun.store(true, Ordering::Release);
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
                        assert_eq!(with_hot_pool(|| with_hot_pool(|| sum(10_000)) + sum(10_000)), 2 * expected);
                    }
                });
            }
        });
    }

    #[test]
    fn a_pass_waits_for_no_thread_that_waits_for_it() {
        for round in 0..20_000usize {
            let parts = || (0..8usize).into_par_iter().with_max_len(1).map(|part| (0..20 * part).sum::<usize>()).sum::<usize>();
            assert_eq!(with_hot_pool(parts), parts(), "{round}");
        }
    }

    #[test]
    fn a_pass_that_panics_lets_the_others_go() {
        let caught = std::panic::catch_unwind(|| with_hot_pool(|| panic!("as it were")));
        assert!(caught.is_err());
        assert_eq!(with_hot_pool(|| sum(10)), sum(10));
    }
}
