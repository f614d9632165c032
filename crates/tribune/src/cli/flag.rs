//! Values of flags as Consul's users write them.

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Command};

/// `key=value`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("Missing \"=\" value in argument: {text}"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The same commands with every switch also taken as `-switch=true` and `-switch=false`.
pub(super) fn with_switch_values(tree: Command) -> Command {
    let tree = tree.mut_args(|argument| {
        if !matches!(argument.get_action(), ArgAction::SetTrue) {
            return argument;
        }
        argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL")
            .value_parser(BoolishValueParser::new())
    });
    tree.mut_subcommands(with_switch_values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_take_values_too() {
        let tree = || {
            let switch = clap::Arg::new("stale").long("stale").action(ArgAction::SetTrue);
            with_switch_values(Command::new("a").subcommand(Command::new("b").arg(switch)))
        };
        let stale = |words: &str| {
            let found = tree().try_get_matches_from(words.split(' ')).unwrap();
            *found.subcommand_matches("b").unwrap().get_one::<bool>("stale").unwrap()
        };
        assert!(
            !stale("a b") && stale("a b --stale") && stale("a b --stale=true") && !stale("a b --stale=false")
        );
        assert!(tree().try_get_matches_from("a b --stale=perhaps".split(' ')).is_err());
    }

    #[test]
    fn pairs_need_an_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("x").unwrap_err(), "Missing \"=\" value in argument: x");
    }
}
