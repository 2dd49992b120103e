//! Which deaths are died: one at the first and one at the last point of each class, or all.

use std::collections::BTreeMap;

use super::Victim;
use super::inner::Recorded;
use super::trace::Death;

/// All deaths at these points, in their order.
pub(super) fn all(points: &[Recorded]) -> Vec<Death> {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut deaths = Vec::new();
    for (at, point) in points.iter().enumerate() {
        let next = met.entry(&point.class).or_default();
        let nth = *next;
        *next += 1;
        for victim in point.victims.iter().copied().chain([Victim::Host]) {
            deaths.push(Death {
                at,
                class: point.class.clone(),
                nth,
                victim,
            });
        }
    }
    deaths
}

/// The first and the last death of the same victim at points of the same class: what goes on in
/// between is the same code doing the same.
pub(super) fn representatives(deaths: Vec<Death>) -> Vec<Death> {
    let mut ends: BTreeMap<(String, Victim), (usize, usize)> = BTreeMap::new();
    for death in &deaths {
        let (_, last) = ends
            .entry((death.class.clone(), death.victim))
            .or_insert((death.at, death.at));
        *last = death.at;
    }
    let mut deaths = deaths;
    deaths.retain(|death| {
        ends.get(&(death.class.clone(), death.victim))
            .is_some_and(|(first, last)| death.at == *first || death.at == *last)
    });
    deaths
}

/// So many, evenly spread.
pub(super) fn sample<T: Clone>(whole: &[T], count: usize) -> Vec<T> {
    let count = count.min(whole.len());
    let at = |index: usize| whole.get(index * whole.len() / count).cloned();
    (0..count).filter_map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(class: &str, victims: &[Victim]) -> Recorded {
        Recorded {
            text: String::new(),
            class: class.to_owned(),
            victims: victims.to_vec(),
        }
    }

    #[test]
    fn the_first_and_the_last_of_each_class_and_victim_are_died() {
        use Victim::{Caller, Host, Vmm};
        let points = [
            point("write", &[Caller]),
            point("write", &[Caller, Vmm]),
            point("write", &[Caller, Vmm]),
            point("write", &[Caller]),
            point("rename", &[Caller]),
        ];
        let deaths = all(&points);
        assert_eq!(deaths.len(), 12);
        let died: Vec<(usize, usize, Victim)> = representatives(deaths)
            .into_iter()
            .map(|death| (death.at, death.nth, death.victim))
            .collect();
        let expected = [
            (0, 0, Caller),
            (0, 0, Host),
            (1, 1, Vmm),
            (2, 2, Vmm),
            (3, 3, Caller),
            (3, 3, Host),
            (4, 0, Caller),
            (4, 0, Host),
        ];
        assert_eq!(died, expected);
    }

    #[test]
    fn a_sample_is_spread_evenly() {
        let whole: Vec<usize> = (0..10).collect();
        assert_eq!(sample(&whole, 5), [0, 2, 4, 6, 8]);
        assert_eq!(sample(&whole, 20), whole);
        assert!(sample::<usize>(&[], 3).is_empty());
    }
}
