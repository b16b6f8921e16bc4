//! docs/EVENTS.md and event.rs say the same: names are a promise to whoever reads the log.

use std::collections::{BTreeMap, BTreeSet};

/// Each event's name and the names of its fields.
type Events = BTreeMap<String, BTreeSet<String>>;

const STAMP: [&str; 4] = ["v", "time", "instance", "event"];

#[test]
fn each_event_is_documented_with_an_example_that_has_all_of_its_fields() {
    let (defined, documented) = (defined(), documented());
    assert!(defined.len() > 20, "event.rs is not read as it should be");
    for (name, fields) in &defined {
        let example = documented
            .get(name)
            .unwrap_or_else(|| panic!("docs/EVENTS.md has no `### \\`{name}\\`` with an example"));
        assert_eq!(example, fields, "the example of {name}");
    }
    for name in documented.keys() {
        assert!(
            defined.contains_key(name),
            "docs/EVENTS.md has {name}, event.rs has not"
        );
    }
}

/// As event.rs defines them: by its own text, so that nobody has to keep a list.
fn defined() -> Events {
    let (mut events, mut current) = (Events::new(), None);
    let text = concat!(include_str!("event.rs"), include_str!("sign_on.rs"));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("    #[serde(rename = \"") {
            let name = rest.split('"').next().unwrap().to_owned();
            events.insert(name.clone(), BTreeSet::new());
            current = Some(name);
        } else if line == "    }," || line == "}" {
            current = None;
        } else if let Some(name) = &current
            && let Some((field, _)) = line.trim().split_once(": ")
            && !line.trim_start().starts_with("//")
        {
            events.get_mut(name).unwrap().insert(camel_case(field));
        }
    }
    events
}

fn documented() -> Events {
    let (mut events, mut heading) = (Events::new(), None);
    for line in include_str!("../../docs/EVENTS.md").lines() {
        if let Some(name) = line.strip_prefix("### `") {
            heading = Some(name.trim_end_matches('`').to_owned());
        } else if line.starts_with('{') {
            let example: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            assert_eq!(example["event"].as_str(), heading.as_deref());
            let fields = example.into_keys();
            let fields = fields.filter(|field| !STAMP.contains(&field.as_str()));
            events.insert(heading.take().unwrap(), fields.collect());
        }
    }
    events
}

fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let mut name = words.next().unwrap().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        name.push_str(&first.to_uppercase());
        name.push_str(rest);
    }
    name
}
