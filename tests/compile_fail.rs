//! What must not compile, and what is said about it. All of it fails in `cargo check`, which is what is run here: code is generated only where
//! there are programs that must pass, and those are in `suite/forms.rs`.

#[test]
fn mistakes_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
}
