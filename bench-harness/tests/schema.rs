//! The JSON schemas in `results/schema` say what the records are, and all that was ever recorded keeps to them.
//!
//! They are made from the types that write the records. After a change of these: a new number in `record.rs` if a field
//! changed its meaning or vanished, then run this test with `UPDATE_EXPECT=1` and read the difference.

use std::path::{Path, PathBuf};

use expect_test::expect_file;
use serde_json::{Value, json};
use tconv_bench::machine::{SHEET_SCHEMA, Sheet};
use tconv_bench::record::{Record, SCHEMA};

fn schema_of<T: schemars::JsonSchema>() -> Value {
    serde_json::to_value(schemars::schema_for!(T)).expect("JSON")
}

/// What is wrong with it, if anything is.
fn problem(schema: &Value, value: &Value) -> Option<String> {
    let validator = jsonschema::validator_for(schema).expect("a schema");
    validator.validate(value).err().map(|error| error.to_string())
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(read).collect()
}

/// All files of a folder of the repository with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    found.sort();
    found
}

#[test]
fn the_schemas_are_those_of_the_types() {
    assert_eq!((SCHEMA, SHEET_SCHEMA), (2, 1), "a new version is a new file");
    let pretty = |schema: Value| serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
    expect_file!["../../results/schema/run-2.json"].assert_eq(&pretty(schema_of::<Record>()));
    expect_file!["../../results/schema/machine-1.json"].assert_eq(&pretty(schema_of::<Sheet>()));
}

#[test]
fn everything_recorded_keeps_to_them() {
    let schema = schema_of::<Record>();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let runs = [files("tests/data/runs", "jsonl"), files("../results/runs", "jsonl")].concat();
    assert!(runs.len() > 2, "{runs:?}");
    for path in runs {
        for (i, line) in lines(&path).iter().enumerate() {
            if let Err(error) = validator.validate(line) {
                panic!("{}:{}: {error}", path.display(), i + 1);
            }
        }
    }
    for path in files("../results/machines", "json") {
        let text = std::fs::read_to_string(&path).expect("readable");
        let sheet: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(problem(&schema_of::<Sheet>(), &sheet), None, "{}", path.display());
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let schema = schema_of::<Record>();
    let good = lines(&files("tests/data/runs", "jsonl")[0]);
    let measurement = good.iter().find(|r| r.get("median_ns").is_some()).expect("figures");
    assert_eq!(problem(&schema, measurement), None);
    for (field, value) in [
        ("record", json!("surprise")),
        ("workload", Value::Null),
        ("median_ns", json!("long")),
        ("threads", json!(-1)),
        ("quantiles_ns", json!([1.0, 2.0])),
        ("stopped", json!("tired")),
    ] {
        let mut bad = measurement.clone();
        bad[field] = value;
        assert!(problem(&schema, &bad).is_some(), "{field}");
        bad.as_object_mut().expect("an object").remove(field);
        assert!(problem(&schema, &bad).is_some(), "without {field}");
    }
}
