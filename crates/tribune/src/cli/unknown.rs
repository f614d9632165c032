//! What is said to a command that does not exist, with everything that does.

use clap::Command;

/// Consul's exit code for it, as a shell's for a program it does not find.
pub(super) const EXIT_CODE: u8 = 127;

/// Consul's commands for parts that this version does not have.
const NOT_HERE: [&str; 11] = [
    "acl",
    "config",
    "connect",
    "exec",
    "intention",
    "login",
    "logout",
    "peering",
    "resource",
    "troubleshoot",
    "license",
];

/// Whether `word`, the first behind the program's name, names a command that there is not.
pub(super) fn is(tree: &Command, word: &str) -> bool {
    !word.starts_with('-') && tree.find_subcommand(word).is_none()
}

/// The message for `name`.
pub(super) fn message(tree: &Command, name: &str) -> String {
    let mut text = if NOT_HERE.contains(&name) {
        format!("{:?} is not part of this version of Tribune.\n", name)
    } else {
        format!("There is no command {name:?}.\n")
    };
    text.push_str("\nAvailable commands are:\n");
    let commands: Vec<_> = tree.get_subcommands().collect();
    let width = commands.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut lines: Vec<String> = commands
        .iter()
        .map(|command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let about = about.split(". ").next().unwrap_or_default();
            format!("    {:width$}    {about}\n", command.get_name())
        })
        .collect();
    lines.sort_unstable();
    text.extend(lines);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_commands_are_listed_in_order() {
        let tree = Command::new("tribune")
            .subcommand(Command::new("watch").about("Follows"))
            .subcommand(Command::new("members").about("Lists"));
        let text = message(&tree, "acl");
        assert!(text.starts_with("\"acl\" is not part of this version of Tribune.\n"));
        assert!(text.ends_with("are:\n    members    Lists\n    watch      Follows\n"), "{text}");
        assert!(message(&tree, "foo").starts_with("There is no command \"foo\"."));
    }
}
