//! Who of several that unpack layers at the same time gets which blocks.
//!
//! There are a few lanes, each with a thread; a lane unpacks one layer after the other. The lanes
//! take turns: at its turn a lane gets the next layer, or the next piece of room, or ends. So what a
//! lane gets depends on the layers alone, and not on which thread was quicker: the same layers lie
//! at the same places, always.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::Room;

/// The most layers that are unpacked at the same time. The places of everything depend on it.
const MOST_LANES: usize = 4;

/// Blocks of 4096 bytes that a lane gets first. Each time it gets twice as many as the last, so what
/// small layers leave of their last piece is little.
const FIRST_PIECE: u64 = 8;

/// Blocks that a lane gets at once at most.
const LARGEST_PIECE: u64 = 512;

/// The turns of all lanes.
pub(super) struct Lanes<'r> {
    state: Mutex<State<'r>>,
    changed: Condvar,
}

struct State<'r> {
    room: &'r mut (dyn Room + 'r),
    /// Whether each lane still has something to do.
    active: Vec<bool>,
    /// How many blocks each lane gets next.
    pieces: Vec<u64>,
    turn: usize,
    next_layer: usize,
    layers: usize,
    stopped: bool,
}

/// Another lane failed, so this one's work is for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

impl<'r> Lanes<'r> {
    pub(super) fn new(layers: usize, room: &'r mut (dyn Room + 'r)) -> Self {
        Self {
            state: Mutex::new(State {
                room,
                active: vec![true; layers.min(MOST_LANES)],
                pieces: vec![FIRST_PIECE; layers.min(MOST_LANES)],
                turn: 0,
                next_layer: 0,
                layers,
                stopped: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().active.len()
    }

    /// The next layer of this lane, if there is one; else the lane has ended.
    pub(super) fn layer(&self, lane: usize) -> Result<Option<usize>, Stopped> {
        self.at_turn(lane, |state| {
            if state.next_layer < state.layers {
                state.next_layer += 1;
                return Some(state.next_layer - 1);
            }
            state.active[lane] = false;
            None
        })
    }

    /// The next blocks for this lane; none if there are no more.
    pub(super) fn piece(&self, lane: usize) -> Result<Option<Range<u64>>, Stopped> {
        self.at_turn(lane, |state| {
            let piece = state.pieces[lane];
            state.pieces[lane] = (2 * piece).min(LARGEST_PIECE);
            state.room.take(piece)
        })
    }

    /// Ends everybody's work. Called by a lane that fails, however it does.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn at_turn<T>(&self, lane: usize, act: impl FnOnce(&mut State<'r>) -> T) -> Result<T, Stopped> {
        let mine = |state: &mut State<'r>| !state.stopped && state.turn != lane;
        let state = self.lock();
        let waited = self.changed.wait_while(state, mine);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Err(Stopped);
        }
        let result = act(&mut state);
        let count = state.active.len();
        let after = (1..=count).map(|step| (lane + step) % count);
        state.turn = after
            .into_iter()
            .find(|lane| state.active[*lane])
            .unwrap_or(lane);
        drop(state);
        self.changed.notify_all();
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, State<'r>> {
        // What is guarded is never left half-changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room whose pieces are one block, whatever is asked for.
    struct Counting(u64);

    impl Room for Counting {
        fn take(&mut self, _: u64) -> Option<Range<u64>> {
            self.0 += 1;
            Some(self.0 - 1..self.0)
        }
    }

    /// What each of the layers gets that need so many pieces.
    fn run(needs: &[usize], delay: impl Fn(usize) + Sync) -> Vec<Vec<u64>> {
        let mut room = Counting(0);
        let lanes = Lanes::new(needs.len(), &mut room);
        let got = Mutex::new(vec![Vec::new(); needs.len()]);
        std::thread::scope(|scope| {
            for lane in 0..lanes.count() {
                let (lanes, got, delay) = (&lanes, &got, &delay);
                scope.spawn(move || {
                    while let Some(layer) = lanes.layer(lane).unwrap() {
                        for _ in 0..needs[layer] {
                            delay(layer);
                            let piece = lanes.piece(lane).unwrap().unwrap();
                            got.lock().unwrap()[layer].push(piece.start);
                        }
                    }
                });
            }
        });
        got.into_inner().unwrap()
    }

    #[test]
    fn what_a_lane_gets_does_not_depend_on_who_is_quicker() {
        let needs = [3, 1, 7, 0, 2, 0, 0, 5];
        let expected = run(&needs, |_| {});
        let mut all: Vec<u64> = expected.iter().flatten().copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..18).collect::<Vec<_>>());
        for slow in 0..needs.len() {
            let spin = |layer| {
                for _ in 0..if layer == slow { 20_000 } else { 0 } {
                    std::hint::spin_loop();
                }
            };
            assert_eq!(run(&needs, spin), expected);
        }
        assert_eq!(run(&[4], |_| {}), [[0, 1, 2, 3]]);
    }

    #[test]
    fn who_fails_stops_the_others() {
        let mut room = Counting(0);
        let lanes = Lanes::new(2, &mut room);
        std::thread::scope(|scope| {
            scope.spawn(|| while lanes.piece(1).is_ok() {});
            lanes.layer(0).unwrap();
            lanes.stop();
        });
        assert_eq!(lanes.layer(0), Err(Stopped));
    }
}
