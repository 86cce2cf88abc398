//! Tests: what conditions mean.

use bson::doc;

use super::*;

#[test]
fn absent_and_null_are_one_value() {
    for document in [doc! {}, doc! { "a": null }, doc! { "b": 1 }] {
        assert!(Filter::eq("a", Bson::Null).matches(&document));
        assert!(Filter::missing("a").matches(&document));
        assert!(!Filter::exists("a").matches(&document));
        assert!(Filter::ne("a", 1).matches(&document));
        assert!(!Filter::lt("a", 1).matches(&document));
    }
}

#[test]
fn numbers_compare_across_widths_and_types_do_not_mix() {
    let document = doc! { "n": 5_i64, "t": "5" };
    assert!(Filter::eq("n", 5_i32).matches(&document));
    assert!(Filter::eq("n", 5.0).matches(&document));
    assert!(Filter::gt("n", 4.5).matches(&document));
    assert!(!Filter::eq("t", 5).matches(&document));
    assert!(!Filter::gt("t", 4).matches(&document));
}

#[test]
fn arrays_match_by_element_and_paths_lead_into_documents() {
    let document = doc! { "tags": ["red", "blue"], "items": [{ "n": 1 }, { "n": 2 }], "deep": { "er": { "x": true } } };
    assert!(Filter::eq("tags", "blue").matches(&document));
    assert!(!Filter::ne("tags", "blue").matches(&document));
    assert!(Filter::eq("items.n", 2).matches(&document));
    assert!(Filter::eq("items.1.n", 2).matches(&document));
    assert!(Filter::eq("deep.er.x", true).matches(&document));
    assert!(Filter::missing("deep.er.y").matches(&document));
}

#[test]
fn and_joins_or_separates() {
    let document = doc! { "a": 1, "b": "xyz" };
    assert!(Filter::all().matches(&document));
    assert!(
        Filter::eq("a", 1)
            .and(Filter::prefix("b", "xy"))
            .matches(&document)
    );
    assert!(
        Filter::eq("a", 2)
            .or(Filter::prefix("b", "xy"))
            .matches(&document)
    );
    assert!(!Filter::Or(Vec::new()).matches(&document));
}
