//! The program that a watch runs: the view as JSON on its standard input, the index in `CONSUL_INDEX`.

use std::process::Stdio;

use anyhow::{anyhow, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tribune_core::Index;

use crate::cli::output::compact;
use crate::cli::shell;

/// A program and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Handler {
    words: Vec<String>,
}

impl Handler {
    /// The handler for the words behind the flags, if there are any.
    pub(super) fn new(words: &[String], with_shell: bool) -> Option<Self> {
        (!words.is_empty()).then(|| Self { words: shell::words(words, with_shell) })
    }

    /// Runs the program once and waits for its end, which must be a good one.
    pub(super) async fn run(&self, index: Index, json: &str) -> anyhow::Result<()> {
        let mut child = Command::new(&self.words[0])
            .args(&self.words[1..])
            .env("CONSUL_INDEX", index.to_string())
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| anyhow!("Error starting handler: {:?}: {error}", self.words[0]))?;
        feed(&mut child, json).await;
        let status = child.wait().await?;
        match (status.success(), status.code()) {
            (true, _) => Ok(()),
            (false, Some(code)) => bail!("Error executing handler: exit status {code}"),
            (false, None) => bail!("Error executing handler: {status}"),
        }
    }
}

/// Writes one line of JSON and closes the input. A program that does not read it is within its rights.
async fn feed(child: &mut Child, json: &str) {
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(format!("{}\n", compact(json)).as_bytes()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(words: &[&str]) -> Handler {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Handler::new(&words, false).unwrap()
    }

    #[tokio::test]
    async fn the_program_gets_the_view_and_its_index() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script = format!("(echo $CONSUL_INDEX; cat) > {}", out.display());
        handler(&["sh", "-c", &script]).run(Index(7), "{\"a\":[]}").await.unwrap();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "7\n{\"a\":[]}\n");
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_is_no_trouble() {
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        handler(&["true"]).run(Index(1), &large).await.unwrap();
    }

    #[tokio::test]
    async fn a_bad_end_is_told() {
        let told = |words: &[&str]| {
            let handler = handler(words);
            async move { handler.run(Index(1), "null").await.unwrap_err().to_string() }
        };
        assert_eq!(told(&["false"]).await, "Error executing handler: exit status 1");
        assert!(told(&["/no/such/program"]).await.starts_with("Error starting handler"));
    }

    #[test]
    fn without_words_there_is_no_handler() {
        assert!(Handler::new(&[], true).is_none());
    }
}
