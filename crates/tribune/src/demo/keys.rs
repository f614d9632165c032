//! Key presses: from a terminal one by one without Enter, from anything else as its bytes come.

use std::io::{self, IsTerminal};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use tokio::io::{AsyncReadExt, Stdin};

/// Standard input. Dropping it gives the terminal back as it was.
#[derive(Debug)]
pub(super) struct Keys {
    input: Option<Stdin>,
    before: Option<Termios>,
}

impl Keys {
    /// Takes the terminal, if there is one and it is this program's turn: one that was started in the background
    /// would be stopped for touching it.
    pub(super) fn open() -> Self {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Self { input: Some(tokio::io::stdin()), before: None };
        }
        if tcgetpgrp(&stdin) != Ok(getpgrp()) {
            return Self { input: None, before: None };
        }
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut single = before.clone();
            single.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
            // A terminal that refuses gives its keys after Enter, which will do.
            let _ = tcsetattr(&stdin, SetArg::TCSANOW, &single);
        }
        Self { input: Some(tokio::io::stdin()), before }
    }

    /// Whether somebody sits at a terminal.
    pub(super) fn are_at_hand(&self) -> bool {
        self.before.is_some()
    }

    /// The next key. When there are no more, none ever comes.
    pub(super) async fn next(&mut self) -> char {
        let mut byte = [0];
        while let Some(input) = &mut self.input {
            match input.read(&mut byte).await {
                Ok(1) => return char::from(byte[0]).to_ascii_lowercase(),
                _ => self.input = None,
            }
        }
        std::future::pending().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing more can be done for a terminal that has gone.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
