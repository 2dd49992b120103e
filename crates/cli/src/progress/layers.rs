//! Layers on their way from a registry or to it, as events like those of a build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use firebuild_builder::progress::{Event, Progress};
use firebuild_core::Digest;
use firebuild_oci::{Motion, Watcher};

/// How often it is told at most how much there is of a layer.
const INTERVAL: Duration = Duration::from_millis(200);

/// Digits of a digest that are enough for people to tell layers apart.
const DIGITS: usize = 12;

/// Where layers go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From a registry to here.
    Here,
    /// From here to a registry.
    There,
}

/// Tells of layers on their way.
pub(crate) struct Layers {
    progress: Arc<dyn Progress>,
    direction: Direction,
    underway: Mutex<HashMap<Digest, Underway>>,
}

/// A layer that has begun.
#[derive(Clone, Copy)]
struct Underway {
    began: Instant,
    told: Instant,
}

impl Layers {
    pub(crate) fn watcher(progress: Arc<dyn Progress>, direction: Direction) -> Arc<dyn Watcher> {
        Arc::new(Self {
            progress,
            direction,
            underway: Mutex::default(),
        })
    }

    /// Whether it is time to tell of a layer, and whether for the first time.
    fn due(&self, layer: &Digest, bytes: u64) -> Option<bool> {
        let mut layers = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match layers.get_mut(layer) {
            Some(known) if now.duration_since(known.told) < INTERVAL && bytes > 0 => None,
            Some(known) => {
                known.told = now;
                Some(false)
            }
            None => {
                let (began, told) = (now, now);
                layers.insert(*layer, Underway { began, told });
                Some(true)
            }
        }
    }

    fn underway(&self, source: &str, bytes: u64, size: Option<u64>) {
        self.progress.event(match self.direction {
            Direction::Here => Event::Fetching {
                source,
                bytes,
                size,
            },
            Direction::There => Event::Sending {
                source,
                bytes,
                size,
            },
        });
    }

    fn arrived(&self, source: &str, bytes: Option<u64>, duration: Duration) {
        self.progress.event(match self.direction {
            Direction::Here => Event::Fetched {
                source,
                bytes,
                duration,
            },
            Direction::There => Event::Sent {
                source,
                bytes,
                duration,
            },
        });
    }
}

impl Watcher for Layers {
    fn layer(&self, layer: &Digest, motion: Motion) {
        let hex = layer.hex();
        let source = format!("layer {}", &hex[..DIGITS]);
        match motion {
            Motion::Underway { bytes, size } => {
                let Some(first) = self.due(layer, bytes) else {
                    return;
                };
                if first && bytes > 0 {
                    // Each begins with nothing, also one of which something was here.
                    self.underway(&source, 0, size);
                }
                self.underway(&source, bytes, size);
            }
            Motion::Arrived { moved } => {
                let mut layers = self.underway.lock().unwrap_or_else(PoisonError::into_inner);
                let began = layers.remove(layer).map(|underway| underway.began);
                drop(layers);
                let duration = began.map(|began| began.elapsed()).unwrap_or_default();
                self.arrived(&source, moved, duration);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn event(&self, event: Event<'_>) {
            let text = match event {
                Event::Fetching {
                    source,
                    bytes,
                    size,
                } => format!("fetching {source}: {bytes} of {size:?}"),
                Event::Sending {
                    source,
                    bytes,
                    size,
                } => format!("sending {source}: {bytes} of {size:?}"),
                Event::Fetched { source, bytes, .. } => format!("fetched {source}: {bytes:?}"),
                Event::Sent { source, bytes, .. } => format!("sent {source}: {bytes:?}"),
                other => format!("{other:?}"),
            };
            self.0.lock().unwrap().push(text);
        }
    }

    #[test]
    fn layers_are_told_of_now_and_then() {
        let layer = Digest::of(b"layer");
        let underway = |bytes| Motion::Underway {
            bytes,
            size: Some(9),
        };
        for (direction, motions, expected) in [
            (
                Direction::Here,
                // What comes at once after another is too much to tell.
                &[
                    underway(4),
                    underway(5),
                    underway(9),
                    Motion::Arrived { moved: Some(5) },
                ][..],
                &[
                    "fetching layer dac1d7cfa950: 0 of Some(9)",
                    "fetching layer dac1d7cfa950: 4 of Some(9)",
                    "fetched layer dac1d7cfa950: Some(5)",
                ][..],
            ),
            (
                Direction::There,
                &[underway(0), Motion::Arrived { moved: None }],
                &[
                    "sending layer dac1d7cfa950: 0 of Some(9)",
                    "sent layer dac1d7cfa950: None",
                ],
            ),
        ] {
            let heard = Arc::new(Heard::default());
            let layers = Layers::watcher(Arc::clone(&heard) as Arc<dyn Progress>, direction);
            for motion in motions {
                layers.layer(&layer, *motion);
            }
            assert_eq!(*heard.0.lock().unwrap(), expected);
        }
    }
}
