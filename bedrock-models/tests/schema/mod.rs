//! Random JSON schemas, and a validator for the keywords they use that shares no code with what is tested.

#![allow(dead_code)] // no test that includes this module needs all of it

use serde_json::{Map, Value, json};

/// Steele et al. 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % count
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A schema under which every value is of bounded length. Same seed, same schema.
pub(crate) fn random(seed: u64) -> Value {
    let mut random = SplitMix64(seed);
    let mut schema = object(&mut random, 3);
    if random.below(2) == 0 {
        schema["$defs"] = json!({ "part": leaf(&mut random), "pair": object(&mut random, 1) });
        let target = random.pick(&["#/$defs/part", "#/$defs/pair"]);
        schema["properties"]["ref"] = json!({ "$ref": target });
    }
    schema
}

fn any(random: &mut SplitMix64, depth: usize) -> Value {
    match random.below(if depth == 0 { 5 } else { 9 }) {
        0..=4 => leaf(random),
        5 | 6 => object(random, depth - 1),
        7 => {
            let least = random.below(3);
            json!({ "type": "array", "items": any(random, depth - 1), "minItems": least, "maxItems": least + random.below(3) })
        }
        _ => json!({ "anyOf": [any(random, depth - 1), any(random, depth - 1), {"type": "null"}] }),
    }
}

fn leaf(random: &mut SplitMix64) -> Value {
    let least = random.below(4);
    let most = least + random.below(9);
    let low = random.below(2000) as i64 - 1000;
    match random.below(9) {
        0 => json!({ "type": "boolean" }),
        1 => json!({ "type": "null" }),
        2 => json!({ "type": "string", "minLength": least, "maxLength": most }),
        3 => json!({ "enum": ["red", "é\"\\\n", 3, null, {"k": [1.5]}] }),
        4 => json!({ "const": random.pick(&["", "yes", "a \"quoted\" word", "🍯"]) }),
        5 => json!({ "type": "integer", "minimum": low, "maximum": low + random.below(5000) as i64 }),
        6 => {
            json!({ "type": "number", "minimum": low as f64 / 8.0, "maximum": low as f64 / 8.0 + random.below(99) as f64 })
        }
        7 => json!({ "type": "string", "pattern": "^[a-c]{2,5}(-[0-9]+){0,2}$", "maxLength": 12 }),
        _ => json!({ "type": ["boolean", "null"] }),
    }
}

fn object(random: &mut SplitMix64, depth: usize) -> Value {
    let names = ["a", "b", "the name", "é", "quote\"", "x-1"];
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for name in &names[..1 + random.below(names.len() as u64) as usize] {
        properties.insert(name.to_string(), any(random, depth));
        if random.below(2) == 0 {
            required.push(*name);
        }
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// A short text that is valid under `schema`, a part of `root`: not always the shortest.
pub(crate) fn short(root: &Value, schema: &Value) -> String {
    let of = |name: &str| schema[name].as_u64().unwrap_or(0) as usize;
    let shortest = |texts: Vec<String>| texts.into_iter().min_by_key(String::len).unwrap();
    if let Some(target) = schema["$ref"].as_str() {
        return short(root, root.pointer(target.trim_start_matches('#')).unwrap());
    }
    if let Some(options) = schema["anyOf"].as_array() {
        return shortest(options.iter().map(|option| short(root, option)).collect());
    }
    if let Some(values) = schema["enum"].as_array() {
        return shortest(values.iter().map(Value::to_string).collect());
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    match schema["type"].as_str().unwrap_or("null") {
        "boolean" => "true".into(),
        "null" => "null".into(),
        "string" if schema.get("pattern").is_some() => "\"aa\"".into(),
        "string" => format!("\"{}\"", "a".repeat(of("minLength"))),
        "array" => format!("[{}]", vec![short(root, &schema["items"]); of("minItems")].join(",")),
        "object" => {
            let names = schema["required"].as_array().into_iter().flatten();
            let field = |name: &Value| format!("{name}:{}", short(root, &schema["properties"][name.as_str().unwrap()]));
            format!("{{{}}}", names.map(field).collect::<Vec<_>>().join(","))
        }
        _ => shortest(vec![schema["minimum"].to_string(), schema["maximum"].to_string()]),
    }
}

/// Whether `value` is valid under `schema`, a part of `root`; what is wrong if it is not.
pub(crate) fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{value} breaks {what} of {schema}"));
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    };
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let bound = || rule.as_f64().expect("a number");
        let length = value.as_str().map(|text| text.chars().count() as f64);
        let items = value.as_array().map(|items| items.len() as f64);
        let number = value.as_f64();
        let holds = match keyword.as_str() {
            "$defs" | "properties" => true,
            "type" => match rule {
                Value::String(kind) => is(kind),
                kinds => kinds.as_array().unwrap().iter().any(|kind| is(kind.as_str().unwrap())),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "minimum" => number.is_none_or(|number| number >= bound()),
            "maximum" => number.is_none_or(|number| number <= bound()),
            "minLength" => length.is_none_or(|length| length >= bound()),
            "maxLength" => length.is_none_or(|length| length <= bound()),
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "minItems" => items.is_none_or(|items| items >= bound()),
            "maxItems" => items.is_none_or(|items| items <= bound()),
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| check(root, rule, item))?;
                true
            }
            "anyOf" => rule.as_array().unwrap().iter().any(|option| check(root, option, value).is_ok()),
            "$ref" => {
                check(root, root.pointer(rule.as_str().unwrap().trim_start_matches('#')).unwrap(), value)?;
                true
            }
            "required" => value.as_object().is_none_or(|fields| {
                rule.as_array().unwrap().iter().all(|name| fields.contains_key(name.as_str().unwrap()))
            }),
            "additionalProperties" => {
                let (known, any) = (&schema["properties"], rule != &Value::Bool(false));
                for (name, field) in value.as_object().into_iter().flatten() {
                    match known.get(name) {
                        Some(rule) => check(root, rule, field)?,
                        None if any => {}
                        None => return wrong("additionalProperties"),
                    }
                }
                true
            }
            other => panic!("keyword {other}"),
        };
        if !holds {
            return wrong(keyword);
        }
    }
    Ok(())
}
