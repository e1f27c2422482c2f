//! JSON schemas (draft 2020-12), as far as those in `proto/schema` use them: what they do not use is refused.

use serde_json::{Map, Value};

/// What is said about a schema and asks for nothing.
const WORDS: [&str; 5] = ["$schema", "$id", "$defs", "title", "description"];

/// What is wrong with a value, each with its place; nothing where it keeps to the schema. References lead from `root`.
pub fn wrong(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let check = Check { root };
    check.value(schema, value, "", &mut wrong);
    wrong
}

struct Check<'a> {
    root: &'a Value,
}

impl Check<'_> {
    fn value(&self, schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
        let Some(rules) = schema.as_object() else {
            if schema != &Value::Bool(true) {
                wrong.push(format!("{place}: nothing is allowed here"));
            }
            return;
        };
        for (rule, asked) in rules {
            if !WORDS.contains(&rule.as_str()) {
                self.rule((rule, asked), rules, (value, place), wrong);
            }
        }
    }

    fn rule(
        &self,
        (rule, asked): (&str, &Value),
        rules: &Map<String, Value>,
        (value, place): (&Value, &str),
        wrong: &mut Vec<String>,
    ) {
        let mut fail =
            |what: String| wrong.push(format!("{place}: {what}, found {}", brief(value)));
        match rule {
            "type" if !types(asked).any(|name| is(value, name)) => {
                fail(format!("expected {asked}"));
            }
            "enum" if !list(asked).contains(value) => fail(format!("expected one of {asked}")),
            "const" if asked != value => fail(format!("expected {asked}")),
            "minimum" if value.as_f64() < asked.as_f64() && value.is_number() => {
                fail(format!("expected at least {asked}"));
            }
            "required" => {
                let Some(fields) = value.as_object() else {
                    return;
                };
                for name in list(asked).iter().filter_map(Value::as_str) {
                    if !fields.contains_key(name) {
                        wrong.push(format!("{place}: `{name}` is missing"));
                    }
                }
            }
            "properties" => {
                for (name, schema) in asked.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        self.value(schema, value, &format!("{place}/{name}"), wrong);
                    }
                }
            }
            "additionalProperties" => {
                let known = rules.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_none_or(|known| !known.contains_key(name)) {
                        self.value(asked, value, &format!("{place}/{name}"), wrong);
                    }
                }
            }
            "items" => {
                let first = rules
                    .get("prefixItems")
                    .map_or(0, |first| list(first).len());
                for (number, value) in list(value).iter().enumerate().skip(first) {
                    self.value(asked, value, &format!("{place}/{number}"), wrong);
                }
            }
            "prefixItems" => {
                for (number, (schema, value)) in list(asked).iter().zip(list(value)).enumerate() {
                    self.value(schema, value, &format!("{place}/{number}"), wrong);
                }
            }
            "anyOf" | "oneOf" => {
                let fits = |schema: &&Value| {
                    let mut wrong = Vec::new();
                    self.value(schema, value, place, &mut wrong);
                    wrong.is_empty()
                };
                let count = list(asked).iter().filter(fits).count();
                if count == 0 || (rule == "oneOf" && count > 1) {
                    fail(format!("fits {count} of {} kinds", list(asked).len()));
                }
            }
            "$ref" => {
                let path = asked.as_str().and_then(|path| path.strip_prefix('#'));
                match path.and_then(|path| self.root.pointer(path)) {
                    Some(schema) => self.value(schema, value, place, wrong),
                    None => fail(format!("{asked} leads nowhere")),
                }
            }
            "type" | "enum" | "const" | "minimum" => {}
            other => fail(format!("the keyword `{other}` is not known here")),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn types(asked: &Value) -> impl Iterator<Item = &str> {
    let several = list(asked).iter().filter_map(Value::as_str);
    asked.as_str().into_iter().chain(several)
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let schema = json!({
            "type": "object",
            "required": ["name", "parts"],
            "properties": {
                "name": {"type": ["string", "null"]},
                "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}},
                "pair": {"type": "array", "prefixItems": [{"type": "string"}], "items": false},
            },
            "additionalProperties": false,
            "$defs": {"part": {"oneOf": [
                {"const": "all"},
                {"type": "object", "properties": {"of": {"type": "integer", "minimum": 0}}, "required": ["of"],
                 "additionalProperties": {"type": "boolean"}},
            ]}},
        });
        let good = json!({"name": null, "parts": ["all", {"of": 3, "more": true}], "pair": ["a"]});
        assert_eq!(wrong(&schema, &schema, &good), Vec::<String>::new());
        for (bad, place) in [
            (json!([]), ""),
            (json!({"name": "a"}), "`parts` is missing"),
            (json!({"name": 1, "parts": []}), "/name"),
            (json!({"name": "a", "parts": ["some"]}), "/parts/0"),
            (json!({"name": "a", "parts": [{"of": -1}]}), "/parts/0"),
            (json!({"name": "a", "parts": [{"of": 1.5}]}), "/parts/0"),
            (
                json!({"name": "a", "parts": [{"of": 1, "more": 2}]}),
                "/parts/0",
            ),
            (
                json!({"name": "a", "parts": [], "pair": ["a", "b"]}),
                "/pair/1",
            ),
            (json!({"name": "a", "parts": [], "other": 1}), "/other"),
        ] {
            let found = wrong(&schema, &schema, &bad);
            assert!(
                found.iter().any(|said| said.contains(place)),
                "{bad}: {found:?}"
            );
        }
        let unknown = json!({"pattern": "a"});
        assert_eq!(
            wrong(&unknown, &unknown, &json!("a")).len(),
            1,
            "keywords are known or refused"
        );
    }
}
