//! What `#[derive(RocketJob)]` makes of a struct.
//!
//! The generated code must not need `unsafe` in the user's crate, and must not trip its lints.

#![forbid(unsafe_code)]
#![deny(
    missing_docs,
    missing_debug_implementations,
    rust_2018_idioms,
    unused_qualifications,
    warnings,
    clippy::pedantic
)]

use std::{collections::BTreeMap, time::Duration};

use bson::{Bson, doc};
use jiff::{Timestamp, civil::Date};
use rocketjob::{
    Concern, Definition, FieldDefinition, FieldType, LostClaim, NoState, Registry, ScalarType,
    ValidationFailed, prelude::*,
};
use serde::{Deserialize, Serialize};
use validator::Validate;

/// Says that a job does nothing, since these tests perform none.
macro_rules! idle {
    ($($job:ty),+ $(,)?) => {
        $(impl Perform for $job {
            async fn perform(&mut self, _job: &JobContext) -> JobResult {
                Ok(())
            }
        })+
    };
}

/// A concern with a value of its own, which is its name.
#[derive(Debug)]
struct Named(&'static str);

impl Named {
    const fn upper_b() -> Self {
        Self("B")
    }
}

impl Concern for Named {
    type State = NoState;

    fn name(&self) -> &'static str {
        self.0
    }
}

fn names(definition: &Definition) -> Vec<&'static str> {
    definition.fields.iter().map(|field| field.name).collect()
}

fn field(definition: &'static Definition, name: &str) -> &'static FieldDefinition {
    let found = definition.fields.iter().find(|field| field.name == name);
    found.unwrap_or_else(|| panic!("no field `{name}` among {:?}", names(definition)))
}

mod definition {
    use super::*;

    /// Mails the report
    /// to one user.
    ///
    /// Once a week.
    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(kind = "Reports::Weekly", aliases("WeeklyReport", "Reports::Old"))]
    #[rocketjob(description = "weekly report", priority = 70, keep_completed, pausable)]
    #[rocketjob(expires_in = "1h 30m", log_level = "debug")]
    #[rocketjob(timeout = "10m", on_lost_claim = "fail", max_lost_claims = 5)]
    struct Full {
        /// The week that is reported.
        #[field(user_editable, copy_on_restart, label = "Week")]
        week: Option<Date>,
        #[field(copy_on_restart)]
        recipient: String,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    struct Plain {}

    #[derive(RocketJob, Serialize, Deserialize)]
    #[concern(Named("a"))]
    #[rocketjob(singleton, concern(Named::upper_b()))]
    #[concern(Named("c"))]
    struct Concerned {}

    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(on_lost_claim = "run_again", max_lost_claims = 1)]
    struct Again {}

    idle!(Full, Plain, Concerned, Again);

    #[test]
    fn says_what_the_attributes_say() {
        let definition = Full::DEFINITION;
        assert_eq!(definition.kind, "Reports::Weekly");
        assert_eq!(definition.aliases, ["WeeklyReport", "Reports::Old"]);
        assert_eq!(definition.rust_type, "derive::definition::Full");
        assert_eq!(
            definition.about,
            Some("Mails the report to one user.\n\nOnce a week.")
        );
        assert_eq!(definition.description, Some("weekly report"));
        assert_eq!(definition.priority, 70);
        assert!(definition.keep_completed && definition.pausable);
        assert_eq!(definition.expires_in, Some(Duration::from_mins(90)));
        assert_eq!(definition.log_level, Some(LogLevel::Debug));
        assert_eq!(definition.timeout, Some(Duration::from_mins(10)));
        assert_eq!(definition.on_lost_claim, LostClaim::Fail);
        assert_eq!(definition.max_lost_claims, 5);
    }

    #[test]
    fn may_say_what_is_so_anyway() {
        let definition = Again::DEFINITION;
        assert_eq!(definition.on_lost_claim, LostClaim::RunAgain);
        assert_eq!(definition.max_lost_claims, 1);
    }

    #[test]
    fn of_a_bare_struct_has_the_defaults() {
        let definition = Plain::DEFINITION;
        assert_eq!(definition.kind, "Plain");
        assert_eq!(definition.priority, rocketjob::DEFAULT_PRIORITY);
        assert!(!definition.keep_completed && !definition.pausable);
        assert_eq!(
            (definition.about, definition.description),
            (None, None),
            "nothing is made up"
        );
        assert_eq!((definition.expires_in, definition.log_level), (None, None));
        assert_eq!(definition.timeout, None);
        assert_eq!(definition.on_lost_claim, LostClaim::RunAgain);
        assert_eq!(
            definition.max_lost_claims,
            rocketjob::DEFAULT_MAX_LOST_CLAIMS
        );
        assert!(definition.aliases.is_empty());
        assert!(definition.fields.is_empty() && definition.concerns.is_empty());
    }

    #[test]
    fn says_what_people_may_do_with_a_field() {
        let week = field(Full::DEFINITION, "week");
        assert!(week.user_editable && week.copy_on_restart);
        assert_eq!(week.label, Some("Week"));
        assert_eq!(week.description, Some("The week that is reported."));
        let recipient = field(Full::DEFINITION, "recipient");
        assert!(!recipient.user_editable && recipient.copy_on_restart);
        assert_eq!((recipient.label, recipient.description), (None, None));
    }

    #[test]
    fn lists_concerns_in_the_order_of_the_attributes() {
        let concerns: Vec<_> = Concerned::DEFINITION
            .concerns
            .iter()
            .map(|concern| concern.name())
            .collect();
        assert_eq!(concerns, ["a", "singleton", "B", "c"]);
    }

    #[test]
    fn is_registered_with_the_program() {
        let kinds = Registry::collected().unwrap().kinds();
        for kind in ["Reports::Weekly", "WeeklyReport", "Reports::Old", "Plain"] {
            assert!(kinds.contains(&kind.to_owned()), "{kind} in {kinds:?}");
        }
    }
}

mod types {
    use super::*;

    /// A type of which the store knows nothing.
    #[derive(Debug, Serialize, Deserialize)]
    enum Mood {
        Good,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    struct Known {
        name: String,
        since: Option<Timestamp>,
        days: Vec<Date>,
        rows: BTreeMap<String, u64>,
        share: f64,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    struct Unknown {
        mood: Mood,
        moods: Vec<Mood>,
        perhaps: Option<Mood>,
        #[serde(with = "in_seconds")]
        at: Timestamp,
        #[serde(default, deserialize_with = "in_seconds::deserialize_some")]
        until: Option<Timestamp>,
        inner: Option<Box<Self>>,
    }

    idle!(Known, Unknown);

    /// Time stamps as numbers, where the type alone would be a date.
    mod in_seconds {
        use jiff::Timestamp;
        use serde::{Deserialize, Deserializer, Serializer, de::Error};

        pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_i64(at.as_second())
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Timestamp, D::Error> {
            Timestamp::from_second(i64::deserialize(from)?).map_err(D::Error::custom)
        }

        pub(super) fn deserialize_some<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Option::<Timestamp>::deserialize(from)
        }
    }

    #[test]
    fn that_are_known_are_told() {
        let facts: Vec<_> = Known::DEFINITION
            .fields
            .iter()
            .map(|field| (field.name, field.field_type, field.via_text, field.optional))
            .collect();
        let expected = [
            ("name", FieldType::One(ScalarType::String), false, false),
            ("since", FieldType::One(ScalarType::Time), true, true),
            ("days", FieldType::Array(ScalarType::Date), true, false),
            ("rows", FieldType::Map(ScalarType::Integer), false, false),
            ("share", FieldType::One(ScalarType::Float), false, false),
        ];
        assert_eq!(facts, expected);
    }

    #[test]
    fn that_are_unknown_or_converted_are_kept_as_they_come() {
        let facts: Vec<_> = Unknown::DEFINITION
            .fields
            .iter()
            .map(|field| (field.name, field.field_type, field.via_text, field.optional))
            .collect();
        let expected = [
            ("mood", FieldType::ANY, false, false),
            ("moods", FieldType::ANY, false, false),
            ("perhaps", FieldType::ANY, false, true),
            ("at", FieldType::ANY, false, false),
            ("until", FieldType::ANY, false, true),
            ("inner", FieldType::ANY, false, true),
        ];
        assert_eq!(facts, expected);
    }

    #[test]
    fn that_are_converted_are_stored_as_the_function_says() {
        let job = Unknown {
            mood: Mood::Good,
            moods: vec![],
            perhaps: None,
            at: Timestamp::from_second(7).unwrap(),
            until: None,
            inner: None,
        };
        let stored = rocketjob::encode(Unknown::DEFINITION, &job).unwrap();
        assert_eq!(stored.get("at"), Some(&Bson::Int32(7)));
        let read: Unknown = rocketjob::decode(Unknown::DEFINITION, &stored).unwrap();
        assert_eq!(read.at, job.at);
    }
}

mod names {
    use super::*;

    macro_rules! cases {
        ($($job:ident $case:literal: $expected:literal),+ $(,)?) => {
            $(
                #[derive(RocketJob, Serialize, Deserialize)]
                #[serde(rename_all = $case)]
                struct $job {
                    first_day_2x: u8,
                }

                idle!($job);
            )+

            #[test]
            fn follow_the_case_of_the_struct() {
                $(assert_stored_name(&$job { first_day_2x: 1 }, $expected);)+
            }
        };
    }

    cases!(
        Lower "lowercase": "first_day_2x",
        Upper "UPPERCASE": "FIRST_DAY_2X",
        Pascal "PascalCase": "FirstDay2x",
        Camel "camelCase": "firstDay2x",
        Snake "snake_case": "first_day_2x",
        ScreamingSnake "SCREAMING_SNAKE_CASE": "FIRST_DAY_2X",
        Kebab "kebab-case": "first-day-2x",
        ScreamingKebab "SCREAMING-KEBAB-CASE": "FIRST-DAY-2X",
    );

    /// Compares with what serde writes, so that the table above cannot be wrong in both places.
    fn assert_stored_name<T: Job>(job: &T, expected: &str) {
        assert_eq!(names(T::DEFINITION), [expected]);
        let stored = bson::serialize_to_document(job).ok();
        assert_eq!(stored, Some(doc! { expected: 1 }));
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    #[serde(rename_all(serialize = "camelCase", deserialize = "camelCase"))]
    struct Renamed {
        #[serde(rename = "type")]
        sort: u8,
        #[serde(rename(serialize = "b", deserialize = "b"))]
        bee: u8,
        #[serde(alias = "former")]
        first_day: u8,
        r#loop: u8,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    struct Left {
        #[serde(skip)]
        state: u8,
        #[serde(skip_serializing, skip_deserializing)]
        cache: u8,
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
        kept: u8,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    struct r#Raw {}

    idle!(Renamed, Left, r#Raw);

    #[test]
    fn are_those_that_serde_writes() {
        assert_eq!(
            names(Renamed::DEFINITION),
            ["type", "b", "firstDay", "loop"]
        );
        let job = Renamed {
            sort: 1,
            bee: 2,
            first_day: 3,
            r#loop: 4,
        };
        let stored = bson::serialize_to_document(&job).unwrap();
        assert_eq!(
            stored.keys().collect::<Vec<_>>(),
            names(Renamed::DEFINITION)
        );
    }

    #[test]
    fn of_fields_that_are_skipped_or_flattened_are_left_out() {
        assert_eq!(names(Left::DEFINITION), ["kept"]);
        let job = Left {
            state: 1,
            cache: 2,
            rest: BTreeMap::from([("more".into(), 3)]),
            kept: 4,
        };
        let mut stored = rocketjob::encode(Left::DEFINITION, &job).unwrap();
        assert_eq!(stored, doc! { "more": 3, "kept": 4 });
        stored.insert("state", "queued");
        let read: Left = rocketjob::decode(Left::DEFINITION, &stored).unwrap();
        assert_eq!((read.state, read.cache, read.kept), (0, 0, 4));
        assert_eq!(read.rest, BTreeMap::from([("more".into(), 3)]));
    }

    #[test]
    fn of_kinds_are_free_of_raw_marks() {
        assert_eq!(Raw::DEFINITION.kind, "Raw");
    }
}

mod defaults {
    use super::*;

    const FEW: u32 = 3;

    #[derive(RocketJob, Serialize, Deserialize)]
    struct Newer {
        old: String,
        #[field(default)]
        rows: Vec<u64>,
        #[field(default = FEW + 1)]
        limit: u32,
        #[field(default = "en".into())]
        language: String,
        #[field(default = Date::constant(2024, 2, 29))]
        day: Date,
    }

    idle!(Newer);

    #[test]
    fn stand_in_for_fields_that_an_old_document_lacks() {
        let old = doc! { "_id": 1, "_type": "Newer", "state": "queued", "old": "x" };
        let job: Newer = rocketjob::decode(Newer::DEFINITION, &old).unwrap();
        assert_eq!(job.old, "x");
        assert_eq!(job.rows, Vec::<u64>::new());
        assert_eq!((job.limit, job.language.as_str()), (4, "en"));
        assert_eq!(job.day, Date::constant(2024, 2, 29));
    }

    #[test]
    fn do_not_replace_what_a_document_has() {
        let job = Newer {
            old: "x".into(),
            rows: vec![1],
            limit: 0,
            language: String::new(),
            day: Date::constant(1969, 7, 20),
        };
        let stored = rocketjob::encode(Newer::DEFINITION, &job).unwrap();
        let read: Newer = rocketjob::decode(Newer::DEFINITION, &stored).unwrap();
        assert_eq!((read.rows, read.limit), (vec![1], 0));
        assert_eq!((read.language.as_str(), read.day), ("", job.day));
    }

    #[test]
    fn are_no_excuse_for_fields_without_one() {
        let error = rocketjob::decode::<Newer>(Newer::DEFINITION, &doc! {})
            .err()
            .unwrap();
        assert!(error.to_string().contains("old"), "{error}");
    }

    #[test]
    fn have_the_type_of_their_field() {
        let default = field(Newer::DEFINITION, "language").default.unwrap();
        assert_eq!(default(), Bson::String("en".into()));
        assert!(field(Newer::DEFINITION, "old").default.is_none());
    }
}

mod rules {
    use super::*;

    #[derive(RocketJob, Serialize, Deserialize, Validate)]
    struct Ruled {
        #[validate(length(min = 1))]
        recipient: String,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    struct Unruled {
        recipient: String,
    }

    idle!(Ruled, Unruled);

    fn broken<T: Job>(job: &T) -> Vec<String> {
        let mut problems = ValidationFailed::new();
        job.check_rules(&mut problems);
        let fields = problems.problems().iter();
        fields.map(|problem| problem.field.clone()).collect()
    }

    #[test]
    fn are_checked_where_the_struct_has_some() {
        let recipient = String::new();
        assert_eq!(broken(&Ruled { recipient }), ["recipient"]);
        let recipient = "somebody".into();
        assert!(broken(&Ruled { recipient }).is_empty());
    }

    #[test]
    fn are_not_asked_of_a_struct_without() {
        let recipient = String::new();
        assert!(broken(&Unruled { recipient }).is_empty());
    }
}

mod surroundings {
    use super::*;

    /// Stands for a crate that re-exports ours.
    mod toolbox {
        pub(super) use rocketjob as jobs;
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(crate = "rocketjob_core")]
    struct ByCore {}

    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(crate = "toolbox::jobs")]
    struct ByModule {}

    // Forms that our attributes never have belong to other derives.
    #[derive(RocketJob, Serialize, Deserialize)]
    #[singleton = "theirs"]
    #[concern = "theirs"]
    #[field]
    struct Shared {
        #[field]
        a: u8,
        #[field = "theirs"]
        b: u8,
        #[field("theirs")]
        #[field(their::path)]
        #[field(0)]
        c: u8,
        #[singleton = "theirs"]
        d: u8,
    }

    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(singleton)]
    #[singleton(theirs)]
    struct Nested {}

    idle!(ByCore, ByModule, Shared, Nested);

    /// A module in which the names that generated code might use mean other things.
    mod hostile {
        #![expect(dead_code, reason = "the names are there to be in the way")]

        use rocketjob::{JobContext, JobResult, Perform, RocketJob};
        use serde::{Deserialize, Serialize};

        struct Definition;
        struct Duration;
        struct Job;
        struct Probe;
        trait Default {}
        mod core {}
        mod rocketjob_core {}

        #[derive(RocketJob, Serialize, Deserialize)]
        #[rocketjob(expires_in = "2h")]
        #[singleton]
        pub(super) struct Surrounded {
            #[field(default)]
            pub(super) rows: u8,
        }

        impl Perform for Surrounded {
            async fn perform(&mut self, _job: &JobContext) -> JobResult {
                Ok(())
            }
        }
    }

    /// The struct's own exceptions from lints hold for what is generated beside it.
    mod retired {
        use rocketjob::prelude::*;
        use serde::{Deserialize, Serialize};

        /// A type that nobody should use any more.
        #[deprecated]
        #[derive(Serialize, Deserialize)]
        pub(super) struct Colour {
            red: u8,
        }

        /// A job that has one still.
        #[derive(RocketJob, Serialize, Deserialize)]
        #[allow(deprecated, reason = "old documents have it")]
        pub(super) struct Painting {
            colour: Colour,
        }

        /// A job that nobody should use any more.
        #[deprecated]
        #[derive(RocketJob, Serialize, Deserialize)]
        pub(super) struct Etching {
            plate: u8,
        }

        idle!(Painting);

        #[expect(deprecated, reason = "there are still some to perform")]
        impl Perform for Etching {
            async fn perform(&mut self, _job: &JobContext) -> JobResult {
                Ok(())
            }
        }
    }

    #[test]
    #[expect(deprecated, reason = "it must work as long as it is there")]
    fn may_be_deprecated() {
        assert_eq!(names(retired::Painting::DEFINITION), ["colour"]);
        assert_eq!(names(retired::Etching::DEFINITION), ["plate"]);
    }

    #[test]
    fn may_name_the_crate_otherwise() {
        assert_eq!(ByCore::DEFINITION.kind, "ByCore");
        assert_eq!(ByModule::DEFINITION.kind, "ByModule");
    }

    #[test]
    fn may_have_attributes_of_other_derives_with_the_same_names() {
        assert!(Shared::DEFINITION.concerns.is_empty());
        assert_eq!(names(Shared::DEFINITION), ["a", "b", "c", "d"]);
        assert_eq!(Nested::DEFINITION.concerns.len(), 1);
    }

    #[test]
    fn may_give_other_meanings_to_names() {
        let definition = hostile::Surrounded::DEFINITION;
        assert_eq!(definition.expires_in, Some(Duration::from_hours(2)));
        let job: hostile::Surrounded = rocketjob::decode(definition, &doc! {}).unwrap();
        assert_eq!(job.rows, 0);
    }

    #[test]
    fn may_be_a_function() {
        #[derive(RocketJob, Serialize, Deserialize)]
        #[singleton]
        struct Local {
            rows: u8,
        }

        idle!(Local);

        assert_eq!(names(Local::DEFINITION), ["rows"]);
        assert!(Registry::collected().unwrap().handler("Local").is_some());
    }
}
