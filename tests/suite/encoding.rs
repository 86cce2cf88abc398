//! The mapping of Rust to BSON types, as the store gets them.

use std::collections::BTreeMap;

use bson::{Bson, doc, oid::ObjectId, spec::ElementType as T};
use jiff::{Timestamp, civil::Date};
use rocketjob::{Error, decode, encode, prelude::*};
use serde::{Deserialize, Serialize};

/// A field of each type.
#[derive(RocketJob, Serialize, Deserialize, Debug, PartialEq, Clone)]
#[rocketjob(kind = "EveryType")]
struct EveryType {
    text: String,
    small: i64,
    large: i64,
    unsigned: u64,
    byte: u8,
    double: f64,
    truth: bool,
    moment: Timestamp,
    bson_moment: bson::DateTime,
    day: Date,
    object: ObjectId,
    maybe: Option<i64>,
    maybe_day: Option<Date>,
    moments: Vec<Timestamp>,
    days_by_name: BTreeMap<String, Date>,
    nested: Nested,
    choice: Choice,
    free: bson::Document,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Nested {
    count: i64,
    list: Vec<u32>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Choice {
    Plain,
    With { amount: i64 },
}

fn sample() -> EveryType {
    EveryType {
        text: "grüezi".into(),
        small: 7,
        large: i64::from(i32::MAX) + 1,
        unsigned: 3,
        byte: 255,
        double: 2.0,
        truth: true,
        moment: "2026-11-24T10:00:00.123Z".parse().unwrap(),
        bson_moment: bson::DateTime::from_millis(1),
        day: "2026-11-24".parse().unwrap(),
        object: ObjectId::from_bytes([7; 12]),
        maybe: None,
        maybe_day: Some("1969-12-31".parse().unwrap()),
        moments: vec!["1969-12-31T23:59:59.999Z".parse().unwrap()],
        days_by_name: BTreeMap::from([("start".to_owned(), "2026-01-01".parse().unwrap())]),
        nested: Nested {
            count: 1,
            list: vec![2, u32::MAX],
        },
        choice: Choice::With { amount: 5 },
        free: doc! { "any": 1_i64 },
    }
}

#[test]
fn each_type_is_stored_as_documented() {
    let stored = encode(EveryType::DEFINITION, &sample()).unwrap();
    let types: Vec<_> = stored
        .iter()
        .map(|(field, value)| (field.as_str(), value.element_type()))
        .collect();
    assert_eq!(
        types,
        [
            ("text", T::String),
            ("small", T::Int32),
            ("large", T::Int64),
            ("unsigned", T::Int32),
            ("byte", T::Int32),
            ("double", T::Double),
            ("truth", T::Boolean),
            ("moment", T::DateTime),
            ("bson_moment", T::DateTime),
            ("day", T::DateTime),
            ("object", T::ObjectId),
            ("maybe", T::Null),
            ("maybe_day", T::DateTime),
            ("moments", T::Array),
            ("days_by_name", T::EmbeddedDocument),
            ("nested", T::EmbeddedDocument),
            ("choice", T::EmbeddedDocument),
            ("free", T::EmbeddedDocument),
        ]
    );
    assert_eq!(
        stored.get_datetime("day").unwrap().to_string(),
        "2026-11-24 0:00:00.0 +00:00:00"
    );
    assert_eq!(
        stored.get_array("moments").unwrap(),
        &[Bson::DateTime(bson::DateTime::from_millis(-1))]
    );
    let start = stored
        .get_document("days_by_name")
        .unwrap()
        .get("start")
        .unwrap();
    assert_eq!(start.element_type(), T::DateTime);
    let nested = doc! { "count": 1, "list": [2, i64::from(u32::MAX)] };
    assert_eq!(stored.get_document("nested").unwrap(), &nested);
}

#[test]
fn what_is_stored_reads_back() {
    let stored = encode(EveryType::DEFINITION, &sample()).unwrap();
    let bytes = bson::serialize_to_vec(&stored).unwrap();
    let stored: bson::Document = bson::deserialize_from_slice(&bytes).unwrap();
    let mut expected = sample();
    // A free document is narrowed like everything else.
    expected.free = doc! { "any": 1 };
    assert_eq!(
        decode::<EveryType>(EveryType::DEFINITION, &stored).unwrap(),
        expected
    );
}

#[test]
fn what_is_finer_than_a_millisecond_is_cut_off_towards_the_past() {
    for (text, millis) in [
        ("2026-01-01T00:00:00.0009Z", 0),
        ("1969-12-31T23:59:59.9999Z", -1),
    ] {
        let mut job = sample();
        job.moment = text.parse().unwrap();
        let stored = encode(EveryType::DEFINITION, &job).unwrap();
        assert_eq!(
            stored.get_datetime("moment").unwrap().timestamp_millis() % 1000,
            millis,
            "{text}"
        );
    }
}

#[test]
fn a_number_that_does_not_fit_is_refused() {
    let mut job = sample();
    job.unsigned = u64::MAX;
    let error = encode(EveryType::DEFINITION, &job).unwrap_err();
    assert!(
        matches!(&error, Error::Unstorable { kind, .. } if kind == "EveryType"),
        "{error}"
    );
}

#[tokio::test]
async fn none_is_absent_in_a_new_document_and_null_after_it_was_set() {
    let store = rocketjob::MemoryStore::new();
    let mut job = sample().create(&store).await.unwrap();
    assert!(!job.document().as_document().contains_key("maybe"));
    job.maybe = Some(1);
    job.save().await.unwrap();
    assert_eq!(
        job.document().as_document().get("maybe"),
        Some(&Bson::Int32(1))
    );
    job.maybe = None;
    job.save().await.unwrap();
    assert_eq!(job.document().as_document().get("maybe"), Some(&Bson::Null));
    job.reload().await.unwrap();
    assert_eq!(job.maybe, None);
}

#[test]
fn a_flattened_field_may_not_take_a_name_of_the_envelope() {
    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(kind = "Flattened")]
    struct Flattened {
        #[serde(flatten)]
        rest: BTreeMap<String, String>,
    }

    impl Perform for Flattened {
        async fn perform(&mut self, _job: &JobContext) -> JobResult {
            Ok(())
        }
    }

    let fine = Flattened {
        rest: BTreeMap::from([("colour".into(), "red".into())]),
    };
    assert_eq!(
        encode(Flattened::DEFINITION, &fine).unwrap(),
        doc! { "colour": "red" }
    );
    let clash = Flattened {
        rest: BTreeMap::from([("state".into(), "red".into())]),
    };
    let error = encode(Flattened::DEFINITION, &clash).unwrap_err();
    assert!(
        error.to_string().contains("`state`") && error.to_string().contains("rename it"),
        "{error}"
    );
}

impl Perform for EveryType {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}
