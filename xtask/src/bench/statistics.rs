//! Medians.

use std::time::Duration;

/// The middle of the values; of an even number of them, the upper one. 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The middle of durations, in seconds.
pub(super) fn median_seconds(durations: &[Duration]) -> f64 {
    median(
        &durations
            .iter()
            .map(Duration::as_secs_f64)
            .collect::<Vec<_>>(),
    )
}

/// The middle of the ratios of what was measured side by side.
pub(super) fn median_ratio(what: &[Duration], against: &[Duration]) -> f64 {
    let pairs = what.iter().zip(against);
    let ratios = pairs.map(|(what, against)| what.as_secs_f64() / against.as_secs_f64());
    median(&ratios.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_count() {
        assert!((median(&[3.0, 1.0, 900.0]) - 3.0).abs() < f64::EPSILON);
        let seconds = |list: [u64; 3]| list.map(Duration::from_secs);
        // Busy in the second turn, for both sides.
        let ratio = median_ratio(&seconds([2, 20, 4]), &seconds([1, 10, 1]));
        assert!((ratio - 2.0).abs() < f64::EPSILON);
    }
}
