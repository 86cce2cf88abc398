//! Tests: conditions as people write them.

use bson::{Bson, DateTime, doc, oid::ObjectId};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock};

const DAY: i64 = 24 * 60 * 60 * 1000;

fn now() -> Timestamp {
    ManualClock::default().now()
}

fn parse(text: &str) -> Filter {
    Filter::parse(text, now()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn at(offset: i64) -> Bson {
    Bson::DateTime(DateTime::from_millis(now().as_millisecond() + offset))
}

#[test]
fn conditions_one_after_the_other_must_all_hold() {
    let filter =
        parse(r#"kind:Import state:failed customer:42 priority:<10 created_at:>2d "so so""#);
    let expected = Filter::And(vec![
        Filter::eq("_type", "Import"),
        Filter::eq("state", "failed"),
        Filter::eq("customer", 42),
        Filter::lt("priority", 10),
        Filter::gt("created_at", at(-2 * DAY)),
        Filter::Or(
            ["description", "exception.class_name", "exception.message"]
                .map(|place| Filter::contains(place, "so so"))
                .into(),
        ),
    ]);
    assert_eq!(filter, expected);
}

#[test]
fn words_have_the_type_that_they_look_like_or_that_their_field_has() {
    let id = "0123456789abcdef01234567";
    for (text, expected) in [
        ("a:1", Filter::eq("a", 1)),
        ("a:-1.5", Filter::eq("a", -1.5)),
        ("a:5000000000", Filter::eq("a", 5_000_000_000_i64)),
        ("a:true", Filter::eq("a", true)),
        ("a:null", Filter::eq("a", Bson::Null)),
        ("a:word", Filter::eq("a", "word")),
        ("a:inf", Filter::eq("a", "inf")),
        (r#"a:"1""#, Filter::eq("a", "1")),
        (r#"a:"say \"a\\b\"""#, Filter::eq("a", r#"say "a\b""#)),
        ("kind:42", Filter::eq("_type", "42")),
        ("description:true", Filter::eq("description", "true")),
        (
            &format!("id:{id}"),
            Filter::eq("_id", ObjectId::parse_str(id).unwrap()),
        ),
        (id, Filter::eq("_id", ObjectId::parse_str(id).unwrap())),
        ("worker:host:1:2", Filter::eq("worker_name", "host:1:2")),
        (r#""worker":5"#, Filter::eq("worker", 5)),
        ("deep.er.0:x", Filter::eq("deep.er.0", "x")),
        ("at:+1h30m", Filter::eq("at", at(DAY / 16))),
        ("run_at:now", Filter::eq("run_at", at(0))),
        ("at:2026-01-01T00:00", Filter::eq("at", at(0))),
        ("at:2026-01-01T01:00+01:00", Filter::eq("at", at(0))),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn ranges_lists_and_beginnings() {
    for (text, expected) in [
        (
            "a:1..5",
            Filter::And(vec![Filter::gte("a", 1), Filter::lte("a", 5)]),
        ),
        ("a:..5", Filter::lte("a", 5)),
        ("a:5..", Filter::gte("a", 5)),
        (
            "a:1.5..2.5",
            Filter::And(vec![Filter::gte("a", 1.5), Filter::lte("a", 2.5)]),
        ),
        (
            "a:1,x,\"2\"",
            Filter::is_in("a", [Bson::Int32(1), "x".into(), "2".into()]),
        ),
        (
            "state:failed,paused",
            Filter::is_in("state", ["failed", "paused"]),
        ),
        ("a:x*", Filter::prefix("a", "x")),
        ("a:\"x y\"*", Filter::prefix("a", "x y")),
        ("a:~x", Filter::contains("a", "x")),
        ("a:*", Filter::exists("a")),
        ("not a:*", Filter::missing("a")),
        (
            "a:x*,y",
            Filter::Or(vec![Filter::prefix("a", "x"), Filter::eq("a", "y")]),
        ),
        ("", Filter::all()),
        ("*", Filter::all()),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn a_day_is_all_of_it() {
    let day = |offset| at(offset * DAY);
    for (text, expected) in [
        (
            "at:2026-01-02",
            Filter::And(vec![Filter::gte("at", day(1)), Filter::lt("at", day(2))]),
        ),
        ("at:<2026-01-02", Filter::lt("at", day(1))),
        ("at:<=2026-01-02", Filter::lt("at", day(2))),
        ("at:>2026-01-02", Filter::gte("at", day(2))),
        ("at:>=2026-01-02", Filter::gte("at", day(1))),
        (
            "at:2026-01-02..2026-01-03",
            Filter::And(vec![Filter::gte("at", day(1)), Filter::lt("at", day(3))]),
        ),
        ("run_at:>=today", Filter::gte("run_at", day(0))),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn either_the_opposite_and_groups() {
    let (a, b, c) = (
        || Filter::eq("a", 1),
        || Filter::eq("b", 2),
        || Filter::eq("c", 3),
    );
    for (text, expected) in [
        (
            "a:1 or b:2 c:3",
            Filter::Or(vec![a(), Filter::And(vec![b(), c()])]),
        ),
        (
            "(a:1 OR b:2) and c:3",
            Filter::And(vec![Filter::Or(vec![a(), b()]), c()]),
        ),
        ("not a:1", Filter::ne("a", 1)),
        ("-a:1", Filter::ne("a", 1)),
        ("a:!=1", Filter::ne("a", 1)),
        ("not not a:1", a()),
        (
            "!(a:1 b:2)",
            Filter::Not(Box::new(Filter::And(vec![a(), b()]))),
        ),
        ("not a:<1", Filter::Not(Box::new(Filter::lt("a", 1)))),
        ("or:1", Filter::eq("or", 1)),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn the_last_failure_and_scheduled_jobs_have_words_of_their_own() {
    let either =
        ["exception.class_name", "exception.message"].map(|path| Filter::contains(path, "timeout"));
    assert_eq!(parse("error:timeout"), Filter::Or(either.into()));
    assert_eq!(parse("error:*"), Filter::exists("exception"));
    let failed = doc! { "exception": { "class_name": "Net::ReadTimeout", "message": "x" } };
    assert!(parse("error:timeout").matches(&failed));
    assert!(parse("timeout").matches(&failed) && !parse("not error:timeout").matches(&failed));
    let scheduled = doc! { "state": "queued", "run_at": at(1) };
    assert!(parse("state:scheduled").matches(&scheduled));
    assert!(!parse("state:scheduled").matches(&doc! { "state": "queued" }));
}

#[test]
fn a_mistake_is_named_with_its_place() {
    for (text, position, part) in [
        ("state:faild", 7, "`faild` is no state"),
        (
            "é:1 priority:high",
            14,
            "`priority` takes a number, and not `high`",
        ),
        ("created_at:>soon", 13, "`created_at` takes a time"),
        ("id:42", 4, "24 hexadecimal digits"),
        ("ready:yes", 7, "`true` or `false`"),
        ("a:", 3, "expected a value, found the end"),
        ("a:1 (b:2", 9, "expected `)`, found the end"),
        ("a:1)", 4, "expected a condition, found `)`"),
        ("a:1 or", 7, "expected a condition, found the end"),
        (":1", 1, "expected the name of a field"),
        ("a:\"open", 3, "has no end"),
        ("a:x*..y", 3, "a beginning"),
        ("error:>5", 8, "takes a text to look for"),
        ("{\"a\": {\"$where\": 1}}", 1, "`$where` is not known"),
        ("{\"a\": 1", 7, "no valid JSON"),
    ] {
        let error = Filter::parse(text, now()).unwrap_err();
        assert!(error.problem.contains(part), "{text}: {error}");
        assert_eq!(error.position, position, "{text}: {error}");
    }
    let deep = "(".repeat(100_000);
    assert!(
        Filter::parse(&deep, now())
            .unwrap_err()
            .problem
            .contains("nested deeper")
    );
    let deep = format!("{}1{}", "{\"$nor\":[".repeat(100), "]}".repeat(100));
    assert!(Filter::parse(&deep, now()).is_err());
}

#[test]
fn the_json_of_the_original_is_understood() {
    for (text, expected) in [
        (
            r#"{"state": "failed", "priority": {"$gt": 10}}"#,
            Filter::And(vec![
                Filter::gt("priority", 10),
                Filter::eq("state", "failed"),
            ]),
        ),
        (
            r#"{"a": {"$gte": 1, "$lt": 5}}"#,
            Filter::And(vec![Filter::gte("a", 1), Filter::lt("a", 5)]),
        ),
        (
            r#"{"$or": [{"a": 1}, {"b": null}]}"#,
            Filter::Or(vec![Filter::eq("a", 1), Filter::eq("b", Bson::Null)]),
        ),
        (r#"{"$nor": [{"a": 1}]}"#, Filter::ne("a", 1)),
        (
            r#"{"a": {"$in": [1, "x"]}}"#,
            Filter::is_in("a", [Bson::Int32(1), "x".into()]),
        ),
        (r#"{"a": {"$nin": [1, 2]}}"#, !Filter::is_in("a", [1, 2])),
        (r#"{"a": {"$exists": false}}"#, Filter::missing("a")),
        (r#"{"a": {"$not": {"$lt": 1}}}"#, !Filter::lt("a", 1)),
        (r#"{"a": {"$regex": "^ab"}}"#, Filter::prefix("a", "ab")),
        (r#"{"a": {"b": 1}}"#, Filter::eq("a", doc! { "b": 1 })),
        (
            r#"{"_id": {"$oid": "0123456789abcdef01234567"}}"#,
            parse("0123456789abcdef01234567"),
        ),
        (
            r#"{"run_at": {"$lt": "2026-01-01T00:00:00Z"}}"#,
            Filter::lt("run_at", at(0)),
        ),
        (
            r#"{"at": {"$date": "2026-01-01T00:00:00Z"}}"#,
            Filter::eq("at", at(0)),
        ),
        (r" {}", Filter::all()),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn texts_are_shown_in_quotation_marks_where_they_would_be_read_as_something_else() {
    for (filter, text) in [
        (Filter::eq("state", "failed"), "state:failed"),
        (Filter::eq("state", "scheduled"), "state:\"scheduled\""),
        (Filter::eq("state", "a"), "state:\"a\""),
        (Filter::eq("_type", "Import"), "kind:Import"),
        (Filter::eq("_type", "null"), "kind:\"null\""),
        (Filter::eq("kind", "true"), "\"kind\":\"true\""),
        (Filter::ne("a", "word"), "a:!=word"),
        (Filter::Or(Vec::new()), "not *"),
    ] {
        assert_eq!(filter.to_string(), text);
        assert_eq!(parse(text), filter);
    }
}

fn values() -> impl Strategy<Value = Bson> {
    prop_oneof![
        any::<i64>().prop_map(crate::encoding::integer),
        (-1000_i64..1000).prop_map(crate::encoding::integer),
        any::<f64>()
            .prop_filter("no text stands for it", |n| n.is_finite())
            .prop_map(Bson::Double),
        any::<bool>().prop_map(Bson::Boolean),
        any::<String>().prop_map(Bson::String),
        "[a-z0-9.*,:]{1,8}".prop_map(Bson::String),
        any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(ObjectId::from_bytes(bytes))),
        (-4_000_000_000_000_i64..4_000_000_000_000)
            .prop_map(|ms| Bson::DateTime(DateTime::from_millis(ms))),
        Just(Bson::Null),
    ]
}

fn paths() -> impl Strategy<Value = String> {
    let known = [
        "a",
        "deep.er",
        "v.0",
        "kind",
        "id",
        "error",
        "or",
        "not",
        "own_field",
    ];
    prop_oneof![
        proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        ".{1,6}"
    ]
    .prop_filter("its values are of one type", |path| {
        meaning(path) == Meaning::Any
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        (paths(), values(), 0..6_u8).prop_map(|(path, value, kind)| match kind {
            0 => Filter::Eq(path, value),
            1 => Filter::Ne(path, value),
            2 => Filter::Lt(path, value),
            3 => Filter::Lte(path, value),
            4 => Filter::Gt(path, value),
            _ => Filter::Gte(path, value),
        }),
        (paths(), any::<String>()).prop_map(|(path, text)| Filter::prefix(path, text)),
        (paths(), any::<String>()).prop_map(|(path, text)| Filter::contains(path, text)),
        (paths(), any::<bool>()).prop_map(|(path, wanted)| Filter::Exists(path, wanted)),
        (paths(), proptest::collection::vec(values(), 2..4))
            .prop_map(|(path, list)| Filter::In(path, list)),
        any::<String>().prop_map(|text| Filter::eq("state", text)),
        (1..100_i32).prop_map(|priority| Filter::lt("priority", priority)),
        any::<String>().prop_map(|text| Filter::eq("_type", text)),
        Just(Filter::all()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let several = proptest::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            several.clone().prop_map(Filter::And),
            several.prop_map(Filter::Or),
            inner.prop_map(|filter| !filter),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_shown_reads_back(filter in filters()) {
        let text = filter.to_string();
        prop_assert_eq!(Filter::parse(&text, now()), Ok(filter), "{}", text);
    }

    #[test]
    fn no_text_is_too_odd(text in any::<String>()) {
        let _ = Filter::parse(&text, now());
    }

    #[test]
    fn no_text_of_our_own_words_is_too_odd(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "a", ":", "*", "..", ",", "(", ")", "not", "or", " ", "\"", "\\", "-", "!", "<", ">=", "~",
            "99999999999999999999d", "+", "2d", "error", "state", "é", "{", "}", "\"$or\"", "[", "-0", "1e999",
        ]), 0..24)
    ) {
        let text = words.concat();
        if let Ok(filter) = Filter::parse(&text, now()) {
            let shown = filter.to_string();
            prop_assert!(Filter::parse(&shown, now()).is_ok(), "{} is shown as {}", text, shown);
        }
    }
}
