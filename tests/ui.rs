//! What the derive refuses, and what it says then. One folder for each family of rules.

#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/*/*.rs");
}
