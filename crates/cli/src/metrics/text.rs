//! Prometheus' text format, version 0.0.4.

use std::fmt;

use firebuild_core::printable;

/// What all names begin with.
const PREFIX: &str = "firebuild_";

/// The most of a label's value.
const LONGEST: usize = 256;

/// What a family's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only goes up.
    Counter,
}

/// Families in the order of their first samples; each is written once, with all of its samples.
#[derive(Debug, Default)]
pub(super) struct Families {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<String>,
}

impl Families {
    /// Adds a sample to its family.
    pub(super) fn sample(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let line = format!("{PREFIX}{name}{labels} {value}");
        match self.families.iter_mut().find(|family| family.name == name) {
            Some(family) => family.samples.push(line),
            None => self.families.push(Family {
                name,
                kind,
                help,
                samples: vec![line],
            }),
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in &self.families {
            let Family {
                name,
                kind,
                help,
                samples,
            } = family;
            let kind = match kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
            };
            writeln!(
                f,
                "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"
            )?;
            for sample in samples {
                writeln!(f, "{sample}")?;
            }
        }
        Ok(())
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    let value = printable(value, LONGEST);
    value.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_stands_together_and_values_are_escaped() {
        let mut families = Families::default();
        families.sample("a", Kind::Gauge, "A.", &[("x", "1\"\\\n")], 1.5);
        families.sample("b_total", Kind::Counter, "B.", &[], 4e12);
        families.sample("a", Kind::Gauge, "A.", &[("x", "2"), ("y", "")], 0.0);
        let expected = "# HELP firebuild_a A.\n# TYPE firebuild_a gauge\n\
                        firebuild_a{x=\"1\\\"\\\\\\\\n\"} 1.5\nfirebuild_a{x=\"2\",y=\"\"} 0\n\
                        # HELP firebuild_b_total B.\n# TYPE firebuild_b_total counter\n\
                        firebuild_b_total 4000000000000\n";
        assert_eq!(families.to_string(), expected);
    }
}
