//! The words of a program that a command runs.

/// A shell, that of `SHELL`, gets the words as one line.
pub(super) fn words(words: &[String], with_shell: bool) -> Vec<String> {
    if !with_shell {
        return words.to_vec();
    }
    let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
    vec![shell.unwrap_or_else(|| "/bin/sh".into()), "-c".into(), words.join(" ")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_one_line() {
        let written = ["echo", "$X;", "ls"].map(str::to_owned);
        assert_eq!(words(&written, true)[1..], ["-c", "echo $X; ls"]);
        assert_eq!(words(&written, false), written);
    }
}
