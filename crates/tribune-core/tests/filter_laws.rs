//! Laws of the filter language.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tribune_core::filter::{DEPTH_MAX, Expression, SyntaxError, TEXT_BYTES_MAX};

/// Texts of expressions, built from parts that meet each other often.
fn expression() -> impl Strategy<Value = String> {
    let key = prop_oneof!["[a-zA-Z][a-zA-Z0-9_/]{0,4}", Just("not".to_owned()), Just("in".to_owned())];
    let index = "[^\"\\\\`]{0,4}".prop_map(|key| format!("[{key:?}]"));
    let step = prop_oneof![key.clone().prop_map(|key| format!(".{key}")), index];
    let selector =
        ("[a-zA-Z][a-zA-Z0-9_/]{0,4}", vec(step, 0..3)).prop_map(|(name, steps)| name + &steps.concat());
    let value = prop_oneof![
        key,
        "-?[1-9][0-9]{0,3}",
        "`[^`]{0,6}`",
        "[^\"\\\\]{0,6}".prop_map(|text| format!("\"{text}\"")),
        select(&[r#""\n\t\"\\""#, r#""\x41\u00e4""#][..]).prop_map(str::to_owned),
    ];
    let operator = select(&["==", "!=", "contains", "not contains", "matches", "not matches"][..]);
    let found = prop_oneof![
        (selector.clone(), operator, value.clone()).prop_map(|(s, op, v)| format!("{s} {op} {v}")),
        (value, select(&["in", "not in"][..]), selector.clone())
            .prop_map(|(v, op, s)| format!("{v} {op} {s}")),
        (selector, select(&["is empty", "is not empty"][..])).prop_map(|(s, op)| format!("{s} {op}")),
    ];
    found.prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 2..4).prop_map(|terms| terms.join(" or ")),
            vec(inner.clone(), 2..4).prop_map(|terms| terms.join(" and ")),
            inner.clone().prop_map(|term| format!("({term})")),
            inner.prop_map(|term| format!("not ({term})")),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(text in expression()) {
        if let Ok(read) = Expression::parse(&text) {
            prop_assert_eq!(Expression::parse(&read.to_string()), Ok(read.clone()), "{} printed {}", text, read);
        }
    }

    #[test]
    fn no_text_panics(text in ".*|[a-z.()\"`\\\\\\[\\]=! 0-9-]{0,60}") {
        let _ = Expression::parse(&text);
    }
}

#[test]
fn size_and_depth_have_limits() {
    let deep = |levels: usize| "(".repeat(levels) + "a == 1" + &")".repeat(levels);
    assert!(Expression::parse(&deep(DEPTH_MAX)).is_ok());
    assert!(matches!(Expression::parse(&deep(DEPTH_MAX + 1)), Err(SyntaxError::TooDeep { .. })));
    assert!(matches!(Expression::parse(&("not ".repeat(2000) + "a == 1")), Err(SyntaxError::TooDeep { .. })));
    assert_eq!(Expression::parse(&" ".repeat(TEXT_BYTES_MAX + 1)), Err(SyntaxError::TooLong));
    let long = vec!["a == 1"; TEXT_BYTES_MAX / 10].join(" or ");
    assert!(Expression::parse(&long).is_ok());
}
