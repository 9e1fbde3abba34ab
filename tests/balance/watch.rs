//! A value that threads change and tests wait for.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Nothing here takes longer, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct Watch<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T: Debug> Watch<T> {
    pub(crate) fn new(value: T) -> Watch<T> {
        Watch {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Waits until `ready` finds what it looks for. It may change the value, and take from it.
    pub(crate) fn until<R>(&self, what: &str, mut ready: impl FnMut(&mut T) -> Option<R>) -> R {
        let end = Instant::now() + PATIENCE;
        let mut value = self.lock();
        loop {
            if let Some(found) = ready(&mut value) {
                drop(value);
                self.changed.notify_all();
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "in vain: {what}; there is {:#?}", *value);
            value = self
                .changed
                .wait_timeout(value, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets its flag however the test ends: the threads of its scope must not wait for it for ever.
pub(crate) struct Stop<'s>(pub(crate) &'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
