//! The text form of a value, as Firecracker's `docs/mmds/mmds-user-guide.md` has it under "IMDS
//! output format": the keys of an object one a line, those of objects with a `/`; a text as it is;
//! nothing else.

use serde_json::Value;

/// The text of `value`; none for numbers, truth values, lists and null.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(entries) => {
            let lines: Vec<String> = entries
                .iter()
                .map(|(key, value)| match value {
                    Value::Object(_) => format!("{key}/"),
                    _ => key.clone(),
                })
                .collect();
            Some(lines.join("\n"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms() {
        let some = |text: &str| Some(text.to_owned());
        for (value, expected) in [
            (json!("a\nb"), some("a\nb")),
            (json!({"a": {"x": 1}, "b": 2, "c": "d"}), some("a/\nb\nc")),
            (json!({}), some("")),
            (json!(1), None),
            (json!([]), None),
            (json!(true), None),
            (json!(null), None),
        ] {
            assert_eq!(text(&value), expected, "{value}");
        }
    }
}
