//! Reading a filter expression, with the place of what is wrong in it.
//!
//! ```text
//! or    = and { "or" and }        and = not { "and" not }
//! not   = "not" not | "(" or ")" | match
//! match = selector ("==" | "!=" | ["not"] "contains" | ["not"] "matches") value
//!       | selector "is" ["not"] "empty"
//!       | value ["not"] "in" selector
//! selector = word { "." word | "[" quoted "]" }        value = quoted | number | word { "." word }
//! ```

use smol_str::SmolStr;

use super::token::{Placed, Token, tokens};
use super::{Expression, Match, Selector, Test};

/// Longest expression, in bytes: longer than any that a person or program writes, short enough that reading one
/// is never work worth an attack.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;

/// How deeply parentheses and negations may be nested; each level costs a stack frame.
pub const DEPTH_MAX: usize = 64;

/// What is wrong with the form of an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// It is longer than [`TEXT_BYTES_MAX`].
    #[error("the expression is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// It is nested more deeply than [`DEPTH_MAX`].
    #[error("1:{}: parentheses and negations are nested more than {DEPTH_MAX} deep", .at + 1)]
    TooDeep {
        /// Where, in bytes.
        at: usize,
    },
    /// Something else was expected.
    #[error("1:{} ({at}): expected {expected}", .at + 1)]
    Expected {
        /// Where, in bytes.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
}

pub(super) fn parse(text: &str) -> Result<Expression, SyntaxError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(SyntaxError::TooLong);
    }
    let expected = "a word, a number, a closed string, a parenthesis, \"==\" or \"!=\"";
    let tokens = tokens(text).map_err(|at| SyntaxError::Expected { at, expected })?;
    let mut parser = Parser { tokens: &tokens, next: 0, end: text.len() };
    let expression = parser.or(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(_) => Err(parser.expected("\"and\", \"or\" or the end")),
    }
}

struct Parser<'a> {
    tokens: &'a [Placed],
    next: usize,
    end: usize,
}

/// What stands before an operator: it may turn out to be either.
enum Operand {
    /// With the value it would be, which it cannot be with brackets.
    Selector(Selector, Option<String>),
    Value(String),
}

impl Operand {
    fn into_value(self) -> Option<String> {
        match self {
            Self::Selector(_, bare) => bare,
            Self::Value(value) => Some(value),
        }
    }
}

impl Parser<'_> {
    fn or(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        let mut terms = vec![self.and(depth)?];
        while self.take_word("or") {
            terms.push(self.and(depth)?);
        }
        Ok(one_or(terms, Expression::Any))
    }

    fn and(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        let mut terms = vec![self.not(depth)?];
        while self.take_word("and") {
            terms.push(self.not(depth)?);
        }
        Ok(one_or(terms, Expression::All))
    }

    fn not(&mut self, depth: usize) -> Result<Expression, SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(SyntaxError::TooDeep { at: self.place() });
        }
        if self.take_word("not") {
            return Ok(Expression::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take_sign("(") {
            let inner = self.or(depth + 1)?;
            return if self.take_sign(")") { Ok(inner) } else { Err(self.expected("\")\"")) };
        }
        Ok(Expression::Match(self.comparison()?))
    }

    fn comparison(&mut self) -> Result<Match, SyntaxError> {
        let operand = self.operand()?;
        let negated = self.take_word("not");
        if self.take_word("in") {
            let value = operand.into_value().ok_or_else(|| self.expected("a value before \"in\""))?;
            let Operand::Selector(selector, _) = self.operand()? else {
                return Err(self.expected("a selector after \"in\""));
            };
            return Ok(Match { selector, test: Test::Contains(value), negated });
        }
        let Operand::Selector(selector, _) = operand else {
            return Err(self.expected("\"in\" or \"not in\" after a value"));
        };
        let (test, negated) = self.test(negated)?;
        Ok(Match { selector, test, negated })
    }

    fn test(&mut self, negated: bool) -> Result<(Test, bool), SyntaxError> {
        if self.take_word("contains") {
            return Ok((Test::Contains(self.value()?), negated));
        }
        if self.take_word("matches") {
            return Ok((Test::Matches(self.value()?), negated));
        }
        if negated {
            return Err(self.expected("\"in\", \"contains\" or \"matches\" after \"not\""));
        }
        if self.take_sign("==") {
            return Ok((Test::Equals(self.value()?), false));
        }
        if self.take_sign("!=") {
            return Ok((Test::Equals(self.value()?), true));
        }
        if self.take_word("is") {
            let negated = self.take_word("not");
            return if self.take_word("empty") {
                Ok((Test::Empty, negated))
            } else {
                Err(self.expected("\"empty\""))
            };
        }
        Err(self.expected("\"==\", \"!=\", \"in\", \"contains\", \"matches\" or \"is\""))
    }

    fn value(&mut self) -> Result<String, SyntaxError> {
        let at = self.place();
        let expected = "a value without brackets";
        self.operand()?.into_value().ok_or(SyntaxError::Expected { at, expected })
    }

    fn operand(&mut self) -> Result<Operand, SyntaxError> {
        match self.peek() {
            Some(Token::Number(text) | Token::Quoted(text)) => {
                let value = text.clone();
                self.next += 1;
                Ok(Operand::Value(value))
            }
            Some(Token::Word(_)) => self.selector(),
            Some(Token::Sign(_)) | None => Err(self.expected("a selector or a value")),
        }
    }

    fn selector(&mut self) -> Result<Operand, SyntaxError> {
        let mut path = vec![self.word()?];
        let mut bare = true;
        loop {
            if self.adjoins(".") {
                self.next += 1;
                path.push(self.word()?);
            } else if self.adjoins("[") {
                self.next += 1;
                bare = false;
                path.push(self.index()?);
            } else {
                let bare = bare.then(|| path.join("."));
                return Ok(Operand::Selector(Selector(path.into_boxed_slice()), bare));
            }
        }
    }

    fn index(&mut self) -> Result<SmolStr, SyntaxError> {
        let Some(Token::Quoted(key)) = self.peek() else { return Err(self.expected("a quoted key")) };
        let key = SmolStr::from(key.as_str());
        self.next += 1;
        if self.take_sign("]") { Ok(key) } else { Err(self.expected("\"]\"")) }
    }

    fn word(&mut self) -> Result<SmolStr, SyntaxError> {
        let Some(Token::Word(word)) = self.peek() else { return Err(self.expected("a name")) };
        let word = SmolStr::from(word.as_str());
        self.next += 1;
        Ok(word)
    }

    /// Whether a sign follows without a blank before it.
    fn adjoins(&self, sign: &str) -> bool {
        let before = self.next.checked_sub(1).map(|at| self.tokens[at].span.end);
        let is_sign = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        is_sign && before == Some(self.place())
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.next += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn place(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |placed| placed.span.start)
    }

    fn expected(&self, expected: &'static str) -> SyntaxError {
        SyntaxError::Expected { at: self.place(), expected }
    }
}

fn one_or(mut terms: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match (terms.len(), terms.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            terms.extend(last);
            many(terms)
        }
    }
}
