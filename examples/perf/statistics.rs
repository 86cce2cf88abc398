//! What many figures come to.

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let figures = sorted(figures);
    let upper = figures.len() / 2;
    let lower = figures.len().saturating_sub(1) / 2;
    match (figures.get(lower), figures.get(upper)) {
        (Some(lower), Some(upper)) => f64::midpoint(*lower, *upper),
        _ => f64::NAN,
    }
}

/// The smallest figure that so many percent of all do not exceed.
pub(crate) fn percentile(figures: &[f64], percent: usize) -> f64 {
    let figures = sorted(figures);
    let place = (figures.len() * percent).div_ceil(100);
    let found = figures.get(place.saturating_sub(1));
    found.copied().unwrap_or(f64::NAN)
}

/// The largest.
pub(crate) fn largest(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::NAN, f64::max)
}

/// By how much `y` grows with `x`: the slope of the line that fits the points best.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = number(points.len());
    let mean = |part: fn(&(f64, f64)) -> f64| points.iter().map(part).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let together: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let alone: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    together / alone
}

/// A count as a figure.
pub(crate) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    figures
}
