//! The voice of the demonstration: numbered steps, what became of each, and colour where it can be seen.

use std::io::Write;
use std::time::{Duration, Instant};

use super::{Told, Trouble};

/// Writes the story.
pub struct Teller<'a> {
    out: &'a mut (dyn Write + Send),
    colour: bool,
    steps: usize,
    failed: usize,
    begun: Instant,
}

/// What became of a step that came out as told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// Something arrived.
    Delivered(String),
    /// Something was refused, as it should be.
    Refused(String),
}

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const FAINT: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";
const WIDTH: usize = 100;

impl<'a> Teller<'a> {
    /// A teller that writes here.
    pub fn new(out: &'a mut (dyn Write + Send), colour: bool) -> Self {
        Self { out, colour, steps: 0, failed: 0, begun: Instant::now() }
    }

    /// A line of its own.
    pub fn heading(&mut self, text: &str) -> Told<()> {
        let text = self.paint(BOLD, text);
        self.line(&format!("\n{text}"))
    }

    /// Words between the steps.
    pub fn words(&mut self, text: &str) -> Told<()> {
        for line in wrap(text, WIDTH) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// A row of a table.
    pub fn row(&mut self, left: &str, right: &str) -> Told<()> {
        let left = self.paint(FAINT, &format!("  {left:<34}"));
        self.line(&format!("{left}{right}"))
    }

    /// Announces a step before it is done, so that it can be seen what is under way.
    pub fn announce(&mut self, title: &str, why: &str) -> Told<()> {
        self.steps += 1;
        let title = self.paint(BOLD, &format!("{:>2}. {title}", self.steps));
        self.line(&format!("\n{title}"))?;
        for line in wrap(why, WIDTH - 4) {
            self.line(&format!("    {line}"))?;
        }
        Ok(())
    }

    /// Tells what became of the step.
    pub fn outcome(&mut self, outcome: Told<Vec<Became>>, took: Duration) -> Told<()> {
        let (mark, colour, lines) = match outcome {
            Ok(lines) => {
                let took = self.paint(FAINT, &format!("({} ms)", took.as_millis()));
                let last = lines.len().saturating_sub(1);
                for (at, line) in lines.into_iter().enumerate() {
                    let (mark, colour, text) = match line {
                        Became::Delivered(text) => ("delivered:", GREEN, text),
                        Became::Refused(text) => ("refused:  ", YELLOW, text),
                    };
                    let mut text = wrap(&text, WIDTH - 18).join(&format!("\n{:18}", ""));
                    if at == last {
                        text = format!("{text} {took}");
                    }
                    let mark = self.paint(colour, mark);
                    self.line(&format!("    -> {mark} {text}"))?;
                }
                return Ok(());
            }
            Err(Trouble(text)) => {
                self.failed += 1;
                ("NOT AS TOLD:", RED, wrap(&text, WIDTH - 8))
            }
        };
        let mark = self.paint(colour, mark);
        self.line(&format!("    {mark}"))?;
        lines.iter().try_for_each(|line| self.line(&format!("        {line}")))
    }

    /// The last words: how many steps, how many as told, how long.
    pub fn close(&mut self) -> Told<bool> {
        let took = self.begun.elapsed().as_secs_f64();
        let text =
            format!("{} of {} steps came out as told, in {took:.1} s.", self.steps - self.failed, self.steps);
        let text = self.paint(if self.failed == 0 { GREEN } else { RED }, &text);
        self.line(&format!("\n{text}"))?;
        Ok(self.failed == 0)
    }

    /// Writes a line, and lets it be seen.
    pub fn line(&mut self, text: &str) -> Told<()> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// The text in lines no longer than this, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(colour: bool, outcome: Told<Vec<Became>>) -> (String, bool) {
        let mut out = Vec::new();
        let mut teller = Teller::new(&mut out, colour);
        teller.announce("Anna writes to Bert.", "Nothing stands in the way.").unwrap();
        teller.outcome(outcome, Duration::from_millis(7)).unwrap();
        let well = teller.close().unwrap();
        (String::from_utf8(out).unwrap(), well)
    }

    #[test]
    fn a_step_that_fails_makes_the_whole_fail() {
        let (text, well) = told(false, Err(Trouble::new("nothing arrived")));
        assert!(!well && text.contains("NOT AS TOLD") && text.contains("0 of 1 steps"));
        let (text, well) = told(false, Ok(vec![Became::Delivered("\"hello\"".into())]));
        assert!(well && text.contains("delivered: \"hello\" (7 ms)") && text.contains("1 of 1 steps"));
    }

    #[test]
    fn without_colour_there_is_no_escape_in_it() {
        assert!(!told(false, Ok(vec![Became::Refused("no".into())])).0.contains('\x1b'));
        assert!(told(true, Ok(vec![Became::Refused("no".into())])).0.contains('\x1b'));
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
    }
}
