//! Turns: something that only so many processes of a store may do at a time.

use crate::Store;
use crate::error::Result;
use crate::lock::{Lock, Mode};

impl Store {
    /// Takes one of `places` places for what is called `name`, if one is free. It is given back when
    /// the lock is dropped, or its process ends.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn try_turn(&self, name: &str, places: usize) -> Result<Option<Lock>> {
        for place in 0..places {
            let lock = self.try_lock(&format!("{name}-{place}"), Mode::Exclusive)?;
            if lock.is_some() {
                return Ok(lock);
            }
        }
        Ok(None)
    }

    /// The same, and waits for one if none is free: for any, as whoever waits has queued up somewhere.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn wait_for_turn(&self, name: &str, places: usize) -> Result<Lock> {
        match self.try_turn(name, places)? {
            Some(lock) => Ok(lock),
            None => {
                let queue = std::process::id() as usize % places.max(1);
                self.lock(&format!("{name}-{queue}"), Mode::Exclusive)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_have_a_turn_and_the_next_waits_for_one() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let turn = || store.try_turn("boot", 2).unwrap();
        let (first, second) = (turn().unwrap(), turn().unwrap());
        assert!(turn().is_none());
        drop(first);
        let third = turn().unwrap();
        let waiting = {
            let store = store.clone();
            std::thread::spawn(move || store.wait_for_turn("boot", 2).map(drop))
        };
        drop((second, third));
        waiting.join().unwrap().unwrap();
        assert!(turn().is_some());
    }
}
