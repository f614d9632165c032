//! Flags with one dash. Consul's users write `-config-dir=x`, `-config-dir x` and `--config-dir x` alike; the
//! parser knows the last two forms with two dashes only, so arguments are rewritten before it sees them.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// `argv` with two dashes before every long flag. Values of flags, everything after `--`, and the words of a
/// command that is to be run as a child are left as they are.
pub(super) fn doubled(tree: &Command, argv: Vec<OsString>) -> Vec<OsString> {
    let mut rewritten = Vec::with_capacity(argv.len());
    let mut words = argv.into_iter();
    rewritten.extend(words.next());
    let mut command = tree;
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().filter(|text| text.len() > 1 && text.starts_with('-')) else {
            let child = command.find_subcommand(&word);
            let ends = child.is_none() && runs_a_child(command);
            rewritten.push(word);
            command = child.unwrap_or(command);
            if ends {
                break;
            }
            continue;
        };
        if text == "--" {
            rewritten.push(word);
            break;
        }
        let flag = with_two_dashes(command, text);
        let takes_next = expects_value(command, &flag);
        rewritten.push(flag);
        if takes_next {
            rewritten.extend(words.next());
        }
    }
    rewritten.extend(words);
    rewritten
}

/// Numbers (`-1`) and one-letter flags (`-h`) have one dash by right, unless the letter is a name (`-n=2`).
fn with_two_dashes(command: &Command, text: &str) -> OsString {
    let name = text.split('=').next().unwrap_or(text);
    let is_word = name.len() > 2 && name[1..].starts_with(|first: char| first.is_ascii_alphabetic());
    let is_name = || command.get_arguments().any(|argument| argument.get_long() == Some(&name[1..]));
    if is_word || is_name() { format!("-{text}").into() } else { text.into() }
}

fn expects_value(command: &Command, flag: &OsStr) -> bool {
    let Some(name) = flag.to_str().and_then(|flag| flag.strip_prefix("--")) else { return false };
    command
        .get_arguments()
        .any(|argument| argument.get_long() == Some(name) && takes_separate_value(argument))
}

fn takes_separate_value(argument: &Arg) -> bool {
    argument.get_action().takes_values() && !argument.is_require_equals_set()
}

fn runs_a_child(command: &Command) -> bool {
    command.get_arguments().any(Arg::is_trailing_var_arg_set)
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn tree() -> Command {
        let agent = Command::new("agent")
            .arg(Arg::new("dev").long("dev").action(ArgAction::SetTrue))
            .arg(Arg::new("config-file").long("config-file").action(ArgAction::Append))
            .arg(Arg::new("http-port").long("http-port").allow_negative_numbers(true));
        let watch = Command::new("watch")
            .arg(Arg::new("type").long("type"))
            .arg(Arg::new("n").long("n"))
            .arg(Arg::new("child").num_args(0..).trailing_var_arg(true));
        Command::new("tribune").subcommand(agent).subcommand(watch)
    }

    fn check(input: &str, expected: &str) {
        let argv = input.split(' ').map(OsString::from).collect();
        let words: Vec<String> =
            doubled(&tree(), argv).into_iter().map(|word| word.into_string().unwrap()).collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn one_dash_becomes_two() {
        check("tribune agent -dev", "tribune agent --dev");
        check("tribune agent -config-file=a.hcl", "tribune agent --config-file=a.hcl");
        check("tribune watch -n=2 -n 3 p -n", "tribune watch --n=2 --n 3 p -n");
        check("tribune agent -n=2", "tribune agent -n=2");
        check("tribune agent -config-file a.hcl --dev", "tribune agent --config-file a.hcl --dev");
        check("tribune -version", "tribune --version");
    }

    #[test]
    fn what_is_no_long_flag_stays() {
        check("tribune agent -h", "tribune agent -h");
        check("tribune agent -http-port -1 -dev", "tribune agent --http-port -1 --dev");
        check("tribune agent -config-file -odd-name", "tribune agent --config-file -odd-name");
        check("tribune agent -", "tribune agent -");
        check("tribune agent -- -dev", "tribune agent -- -dev");
    }

    #[test]
    fn a_child_command_keeps_its_own_flags() {
        check("tribune watch -type=nodes ls -long", "tribune watch --type=nodes ls -long");
        check("tribune watch -type nodes ls -long", "tribune watch --type nodes ls -long");
    }
}
