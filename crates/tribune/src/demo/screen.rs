//! What people see: aligned lines, times as they are read, colours where there is a terminal, and one line that
//! shows what is being waited for.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const YELLOW: &str = "33";

/// Width of the first column of a line.
const SUBJECT_WIDTH: usize = 11;
/// Width of the second, where a time follows.
const TEXT_WIDTH: usize = 72;

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    colours: bool,
    /// Whether the line that shows what is waited for stands on the screen now.
    is_waiting: bool,
    /// Whether whoever read the output has gone.
    is_unread: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_terminal, colours, is_waiting: false, is_unread: false }
    }

    /// Plain text, in as many lines as it has.
    pub(super) fn text(&mut self, text: &str) {
        self.write(text);
    }

    /// A heading.
    pub(super) fn heading(&mut self, text: &str) {
        let text = self.coloured(BOLD, text);
        self.write(&format!("\n{text}"));
    }

    /// Something that was done or seen, and when or how fast.
    pub(super) fn done(&mut self, subject: &str, text: &str, took: Option<Duration>) {
        let subject = self.coloured(GREEN, &format!("{subject:SUBJECT_WIDTH$}"));
        let text = match took {
            Some(took) => {
                format!("{text:TEXT_WIDTH$} {}", self.coloured(BOLD, &format!("{:>8}", duration(took))))
            }
            None => text.to_owned(),
        };
        self.write(&format!("  {subject} {text}"));
    }

    /// Something that happened by itself, at this time of day.
    pub(super) fn event(&mut self, text: &str) {
        let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
        let now = self.coloured(DIM, &format!("{now:SUBJECT_WIDTH$}"));
        self.write(&format!("  {now} {text}"));
    }

    /// Something that is not as it should be.
    pub(super) fn trouble(&mut self, subject: &str, text: &str) {
        let subject = self.coloured(YELLOW, &format!("{subject:SUBJECT_WIDTH$}"));
        self.write(&format!("  {subject} {text}"));
    }

    /// What is waited for, and for how long already. Only a terminal shows it, and the next line replaces it.
    pub(super) fn waiting(&mut self, what: &str, since: Duration) {
        if !self.is_terminal {
            return;
        }
        let line = format!("\r\x1b[K  … {what}  {:.1} s", since.as_secs_f32());
        self.is_waiting = true;
        self.put(&line);
    }

    /// Whether nobody reads the output any more (`| head`), so that there is no point in going on.
    pub(super) fn is_unread(&self) -> bool {
        self.is_unread
    }

    fn write(&mut self, text: &str) {
        let clear = if std::mem::take(&mut self.is_waiting) { "\r\x1b[K" } else { "" };
        self.put(&format!("{clear}{text}\n"));
    }

    fn put(&mut self, text: &str) {
        let mut out = io::stdout().lock();
        self.is_unread |= out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }

    fn coloured(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A time as people read it: `0.42 ms`, `85 ms`, `1.3 s`, `2 min 5 s`.
pub(super) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.01 => format!("{:.2} ms", seconds * 1e3),
        ..0.995 => format!("{:.0} ms", seconds * 1e3),
        ..59.95 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60),
    }
}

/// A number of things.
pub(super) fn counted(count: usize, one: &str) -> String {
    match count {
        0 => format!("no {one}"),
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

/// Words as people list them.
pub(super) fn listed<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    match items.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        let cases = [
            (420, "0.42 ms"),
            (9_994, "9.99 ms"),
            (85_400, "85 ms"),
            (994_000, "994 ms"),
            (996_000, "1.0 s"),
            (1_340_000, "1.3 s"),
            (125_000_000, "2 min 5 s"),
        ];
        for (micros, text) in cases {
            assert_eq!(duration(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn lists_are_sentences() {
        assert_eq!(listed::<u16>(&[]), "none");
        assert_eq!(listed(&[8081]), "8081");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "instance")),
            ["no instance", "1 instance", "2 instances"]
        );
    }

    #[test]
    fn without_a_terminal_there_are_no_colours() {
        let screen = Screen { is_terminal: false, colours: false, is_waiting: false, is_unread: false };
        assert_eq!(screen.coloured(BOLD, "x"), "x");
        let screen = Screen { colours: true, ..screen };
        assert_eq!(screen.coloured(BOLD, "x"), "\x1b[1mx\x1b[0m");
    }
}
