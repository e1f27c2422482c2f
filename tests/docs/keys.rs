//! Every key of the four files that people write stands in the guide of whoever writes it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use fedner_client::config::{Policy, Resources, Settings};
use fedner_coordinator::config::Config;
use fedner_coordinator::limits::Limits;
use fedner_coordinator::retention::Retention;
use fedner_model::corpus::ReadOptions;
use fedner_shared::plan::{
    Aggregation, Cohort, Gate, Guard, Inputs, Lora, Plan, Privacy, Requires, Schedule,
    SecureAggregation, ServerOptimizer, Training,
};
use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use toml::{Table, Value};

use crate::tree::read;

const PLAN: &str = "shared/src/plan/PLAN.md";
const CLIENT: &str = "client/README.md";
const COORDINATOR: &str = "coordinator/README.md";

/// Takes down the fields that a struct asks for, and gives it none.
#[derive(Default)]
struct Fields(&'static [&'static str]);

impl<'de> Deserializer<'de> for &mut Fields {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only the fields are wanted"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0 = fields;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The keys of a struct, whether they are optional or not.
fn keys<T: for<'de> Deserialize<'de>>() -> BTreeSet<String> {
    let mut fields = Fields::default();
    let _ = T::deserialize(&mut fields);
    fields.0.iter().map(ToString::to_string).collect()
}

/// The first block of TOML after a heading.
fn block(file: &str, heading: &str) -> Result<String> {
    let text = read(file)?;
    let (_, after) = text
        .split_once(&format!("\n## {heading}\n"))
        .with_context(|| format!("{file} has no section `{heading}`"))?;
    let (_, begun) = after
        .split_once("```toml\n")
        .with_context(|| format!("the section `{heading}` of {file} has no TOML"))?;
    let (block, _) = begun.split_once("```").context("the block has no end")?;
    Ok(block.to_owned())
}

fn assert_same(file: &str, table: &str, documented: &Table, keys: &BTreeSet<String>) {
    assert!(!keys.is_empty(), "`{table}` has no keys: is it a struct?");
    let documented: BTreeSet<String> = documented.keys().cloned().collect();
    let missing: Vec<_> = keys.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "{file} lacks keys of `{table}`: {missing:?}"
    );
    let gone: Vec<_> = documented.difference(keys).collect();
    assert!(
        gone.is_empty(),
        "{file} has keys that `{table}` lacks: {gone:?}"
    );
}

/// Tables whose keys are the user's own.
const MAPS: [&str; 3] = ["annotated_types_of", "known_institutions", "rename"];

/// Compares a block with the structs of its tables, the whole file's first.
fn compare(file: &str, text: &str, tables: &[(&str, BTreeSet<String>)]) -> Result<()> {
    let whole: Table = toml::from_str(text).with_context(|| format!("read the TOML of {file}"))?;
    for (name, keys) in tables {
        let table = match *name {
            "" => Some(&whole),
            name => whole.get(name).and_then(Value::as_table),
        };
        let table = table.with_context(|| format!("{file} has no table `{name}`"))?;
        assert_same(file, name, table, keys);
    }
    let is_known =
        |key: &String| MAPS.contains(&key.as_str()) || tables.iter().any(|(name, _)| name == key);
    let unknown = whole
        .iter()
        .find(|(key, value)| value.is_table() && !is_known(key));
    assert!(
        unknown.is_none(),
        "name the struct of {unknown:?} in this test"
    );
    Ok(())
}

/// That the keys of `defaults` stand in the block with the same values, but for `others`, whose
/// comments say what leaving them out means.
fn assert_defaults(documented: &Table, defaults: &Table, others: &[&str]) {
    for (key, value) in defaults {
        if !others.contains(&key.as_str()) {
            assert_eq!(documented.get(key), Some(value), "the default of `{key}`");
        }
    }
}

#[test]
fn every_key_of_a_plan_is_documented() -> Result<()> {
    let text = block(PLAN, "Every key")?;
    compare(
        PLAN,
        &text,
        &[
            ("", keys::<Plan>()),
            ("training", keys::<Training>()),
            ("lora", keys::<Lora>()),
            ("cohort", keys::<Cohort>()),
            ("privacy", keys::<Privacy>()),
            ("inputs", keys::<Inputs>()),
            ("aggregation", keys::<Aggregation>()),
            ("gate", keys::<Gate>()),
            ("guard", keys::<Guard>()),
            ("secure_aggregation", keys::<SecureAggregation>()),
            ("schedule", keys::<Schedule>()),
            ("requires", keys::<Requires>()),
            ("server_optimizer", keys::<ServerOptimizer>()),
        ],
    )?;
    let plan: Plan = toml::from_str(&text)?;
    let table: Table = toml::from_str(&text)?;
    let of = |name: &str| table[name].as_table().context("a table");
    let training = Table::try_from(Training::default())?;
    assert_defaults(of("training")?, &training, &["class_weights"]);
    assert_eq!(plan.lora, Some(Lora::default()));
    Ok(())
}

#[test]
fn every_key_of_the_client_is_documented() -> Result<()> {
    let text = block(CLIENT, "client.toml")?;
    let tables = [
        ("", keys::<Settings>()),
        ("reading", keys::<ReadOptions>()),
        ("resources", keys::<Resources>()),
    ];
    compare(CLIENT, &text, &tables)?;
    let _: Settings = toml::from_str(&text)?;
    Ok(())
}

#[test]
fn every_key_of_a_policy_is_documented_with_its_default() -> Result<()> {
    let text = block(CLIENT, "policy.toml")?;
    compare(CLIENT, &text, &[("", keys::<Policy>())])?;
    let documented: Table = toml::from_str(&text)?;
    let defaults = Table::try_from(Policy::default())?;
    assert_defaults(&documented, &defaults, &[]);
    Ok(())
}

#[test]
fn every_key_of_the_coordinator_is_documented() -> Result<()> {
    let text = block(COORDINATOR, "coordinator.toml")?;
    let tables = [
        ("", keys::<Config>()),
        ("retention", keys::<Retention>()),
        ("limits", keys::<Limits>()),
    ];
    compare(COORDINATOR, &text, &tables)?;
    let config: Config = toml::from_str(&text)?;
    assert_eq!(config.limits, Limits::default());
    Ok(())
}

#[test]
fn the_readmes_plan_is_a_plan() -> Result<()> {
    let plan = Plan::parse(&block("README.md", "A first federation")?)?;
    assert!(plan.privacy.unit.is_sampled());
    Ok(())
}

/// The schemas of what commands write name every field of the records that both programs read, also of those that
/// are seldom there.
#[test]
fn schemas_have_every_field_of_records() -> Result<()> {
    use fedner_shared::event::Entry;
    use fedner_shared::version::{Participant, Round, Version};
    use fedner_shared::view::{
        Absence, AuditView, Explanation, InstitutionScores, InstitutionView, MemberView, RunView,
        VersionView,
    };

    let read = |program: &str| -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&read(&format!(
            "proto/schema/{program}.json"
        ))?)?)
    };
    let (coordinator, client) = (read("coordinator")?, read("client")?);
    for (schema, name, expected) in [
        (&coordinator, "Plan", keys::<Plan>()),
        (&coordinator, "Training", keys::<Training>()),
        (&coordinator, "Cohort", keys::<Cohort>()),
        (&coordinator, "Privacy", keys::<Privacy>()),
        (&coordinator, "Aggregation", keys::<Aggregation>()),
        (&coordinator, "Inputs", keys::<Inputs>()),
        (&coordinator, "Gate", keys::<Gate>()),
        (&coordinator, "Guard", keys::<Guard>()),
        (&coordinator, "Lora", keys::<Lora>()),
        (&coordinator, "Schedule", keys::<Schedule>()),
        (
            &coordinator,
            "SecureAggregation",
            keys::<SecureAggregation>(),
        ),
        (&coordinator, "ServerOptimizer", keys::<ServerOptimizer>()),
        (&coordinator, "event.Entry", keys::<Entry>()),
        (&coordinator, "Version", keys::<Version>()),
        (&coordinator, "Round", keys::<Round>()),
        (&coordinator, "Participant", keys::<Participant>()),
        (&coordinator, "RunView", keys::<RunView>()),
        (&coordinator, "MemberView", keys::<MemberView>()),
        (&coordinator, "InstitutionView", keys::<InstitutionView>()),
        (
            &coordinator,
            "InstitutionScores",
            keys::<InstitutionScores>(),
        ),
        (&coordinator, "VersionView", keys::<VersionView>()),
        (&coordinator, "AuditView", keys::<AuditView>()),
        (&coordinator, "Explanation", keys::<Explanation>()),
        (&coordinator, "Absence", keys::<Absence>()),
        (&client, "Policy", keys::<Policy>()),
    ] {
        assert!(!expected.is_empty(), "`{name}` has no fields");
        let found = schema["$defs"][name]["properties"].as_object();
        let found = found.with_context(|| format!("the schemas have no `{name}`"))?;
        let found: BTreeSet<String> = found.keys().cloned().collect();
        assert_eq!(found, expected, "proto/schema: {name}");
    }
    Ok(())
}
