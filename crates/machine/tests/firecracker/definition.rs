//! Firecracker's definition of its interface as a judge: which calls there are, and whether a body
//! is one that they take. Older versions know less: what came when is listed here once more, apart
//! from the driver's own list, so that one mistake does not hide the other.

use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The definition, as Firecracker has it.
const TEXT: &str = include_str!("api-1.17.yaml");

/// The minor version of the definition.
const NEWEST: u32 = 17;

/// Paths, fields and values that came after 1.10, and the minor version that they came with.
const NEW: [(&str, &str, &str, u32); 13] = [
    ("/mmds/config", "imds_compat", "", 13),
    ("/serial", "", "", 14),
    ("/pmem/{id}", "", "", 14),
    ("/hotplug/memory", "", "", 14),
    ("/balloon", "free_page_hinting", "", 14),
    ("/balloon", "free_page_reporting", "", 14),
    ("/balloon/hinting/start", "", "", 14),
    ("/network-interfaces/{iface_id}", "mtu", "", 16),
    ("/serial", "rate_limiter", "", 16),
    ("/snapshot/load", "vsock_override", "", 16),
    ("/machine-config", "huge_pages", "Transparent", 17),
    ("/metrics", "emit_id", "", 17),
    ("/metrics", "properties", "", 17),
];

/// The definition.
pub(crate) struct Definition {
    root: Value,
    minor: u32,
}

impl Definition {
    /// As version 1.`minor` has it.
    pub(crate) fn of(minor: u32) -> Self {
        assert!((10..=NEWEST).contains(&minor));
        let root = json(&YamlLoader::load_from_str(TEXT).unwrap()[0]);
        Self { root, minor }
    }

    /// Checks a call. Returns its path with the names of its parameters in place of their values.
    pub(crate) fn check(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, String> {
        let (template, names) = self.find(path).ok_or(format!("no such path `{path}`"))?;
        self.is_known(&template, "", "")?;
        let call = &self.root["paths"][&template][method.to_ascii_lowercase()];
        if call.is_null() {
            return Err(format!("`{path}` has no `{method}`"));
        }
        let parameters = call["parameters"].as_array().cloned().unwrap_or_default();
        let wanted = parameters.iter().find(|it| it["in"] == "body");
        match (wanted, body) {
            (Some(wanted), Some(body)) => {
                self.check_value(&wanted["schema"], body, &template)?;
                for (field, value) in body.as_object().into_iter().flatten() {
                    self.is_known(&template, field, value.as_str().unwrap_or_default())?;
                }
                // What the path says the body says, too.
                for (name, value) in names {
                    if body[&name] != value {
                        return Err(format!("`{name}` is `{value}` in the path only"));
                    }
                }
            }
            (Some(_), None) => return Err("a body is missing".to_owned()),
            (None, Some(_)) => return Err("there is a body".to_owned()),
            (None, None) => {}
        }
        Ok(template)
    }

    fn find(&self, path: &str) -> Option<(String, Vec<(String, String)>)> {
        let given: Vec<&str> = path.split('/').collect();
        let templates = self.root["paths"].as_object().unwrap().keys();
        for template in templates {
            let parts: Vec<&str> = template.split('/').collect();
            let mut names = Vec::new();
            let fits = parts.len() == given.len()
                && parts.iter().zip(&given).all(|(part, given)| {
                    let name = part.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
                    if let Some(name) = name {
                        names.push((name.to_owned(), (*given).to_owned()));
                    }
                    name.is_some_and(|_| !given.is_empty()) || part == given
                });
            if fits {
                return Some((template.clone(), names));
            }
        }
        None
    }

    fn is_known(&self, template: &str, field: &str, value: &str) -> Result<(), String> {
        for (path, new, only, minor) in NEW {
            let is_meant = path == template && new == field && (only.is_empty() || only == value);
            if is_meant && self.minor < minor {
                return Err(format!(
                    "unknown `{template}` `{field}` `{value}` in version 1.{}",
                    self.minor
                ));
            }
        }
        Ok(())
    }

    fn check_value(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return self.check_value(&self.root["definitions"][name], value, at);
        }
        let wrong = |what: &str| Err(format!("`{at}`: {what}: {value}"));
        let type_fits = match schema["type"].as_str() {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64() || value.is_i64(),
            Some("boolean") => value.is_boolean(),
            other => panic!("the definition has the type {other:?} at `{at}`"),
        };
        if !type_fits {
            return wrong("wrong type");
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            return wrong("not one of the values that there are");
        }
        if let Some(number) = value.as_i64() {
            let low = schema["minimum"]
                .as_i64()
                .is_some_and(|least| number < least);
            let high = schema["maximum"].as_i64().is_some_and(|most| number > most);
            if low || high {
                return wrong("out of range");
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.check_value(&schema["items"], item, at)?;
        }
        match value.as_object() {
            Some(fields) => self.check_fields(schema, fields, at),
            None => Ok(()),
        }
    }

    fn check_fields(
        &self,
        schema: &Value,
        fields: &Map<String, Value>,
        at: &str,
    ) -> Result<(), String> {
        for (name, value) in fields {
            match (&schema["properties"][name], &schema["additionalProperties"]) {
                (Value::Null, Value::Bool(true)) => {}
                (Value::Null, Value::Null) => {
                    return Err(format!("unknown field `{name}` of `{at}`"));
                }
                (Value::Null, others) => self.check_value(others, value, name)?,
                (known, _) => self.check_value(known, value, name)?,
            }
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap();
            if !fields.contains_key(name) {
                return Err(format!("missing field `{name}` of `{at}`"));
            }
        }
        Ok(())
    }
}

fn json(yaml: &Yaml) -> Value {
    let text = |yaml: &Yaml| match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.clone(),
        Yaml::Integer(number) => number.to_string(),
        other => panic!("a key is {other:?}"),
    };
    match yaml {
        Yaml::Hash(fields) => fields.iter().map(|(k, v)| (text(k), json(v))).collect(),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::String(text) | Yaml::Real(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(value) => (*value).into(),
        Yaml::Null | Yaml::BadValue | Yaml::Alias(_) => Value::Null,
    }
}

/// The judge itself, judged.
pub(crate) fn the_definition_is_enforced() {
    use serde_json::json;
    let newest = Definition::of(NEWEST);
    let drive = json!({"drive_id": "a", "is_root_device": false, "path_on_host": "/a"});
    assert_eq!(
        newest.check("PUT", "/drives/a", Some(&drive)),
        Ok("/drives/{drive_id}".to_owned())
    );
    let with = |name: &str, value: Value| {
        let mut drive = drive.clone();
        drive[name] = value;
        drive
    };
    let nic = json!({"iface_id": "n", "host_dev_name": "t", "mtu": 1400});
    for (method, path, body, said) in [
        (
            "PUT",
            "/drives/a",
            with("serial", "x".into()),
            "unknown field `serial`",
        ),
        (
            "PUT",
            "/drives/a",
            with("is_read_only", 1.into()),
            "wrong type",
        ),
        (
            "PUT",
            "/drives/a",
            with("cache_type", "Fast".into()),
            "not one of",
        ),
        ("PUT", "/drives/b", drive.clone(), "in the path only"),
        (
            "PUT",
            "/drives/a",
            json!({"drive_id": "a"}),
            "missing field `is_root_device`",
        ),
        ("PUT", "/drives/a", json!([]), "wrong type"),
        ("PUT", "/drives", drive.clone(), "no such path"),
        ("PUT", "/drives/a/b", drive.clone(), "no such path"),
        ("DELETE", "/drives/a", drive.clone(), "has no `DELETE`"),
        ("GET", "/version", json!({}), "there is a body"),
        (
            "PUT",
            "/machine-config",
            json!({"vcpu_count": 33, "mem_size_mib": 1}),
            "out of range",
        ),
        (
            "PUT",
            "/mmds/config",
            json!({"network_interfaces": [7]}),
            "wrong type",
        ),
        (
            "PUT",
            "/metrics",
            json!({"metrics_path": "m", "properties": {"a": 1}}),
            "wrong type",
        ),
    ] {
        let error = newest.check(method, path, Some(&body)).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert!(
        newest
            .check("PUT", "/mmds", Some(&json!({"any": ["thing"]})))
            .is_ok()
    );
    assert!(newest.check("PUT", "/actions", None).is_err());
    for minor in 10..=NEWEST {
        let known = Definition::of(minor).check("PUT", "/network-interfaces/n", Some(&nic));
        assert_eq!(known.is_ok(), minor >= 16, "1.{minor}: {known:?}");
    }
}
