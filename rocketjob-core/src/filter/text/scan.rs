//! The letters of the text form: words, quotations, operators, and where a mistake is.

use super::{FilterError, Parser};

impl Parser<'_> {
    pub(super) fn bare(&mut self) -> String {
        let mut word = self
            .until(|c| c.is_whitespace() || "(),\"".contains(c))
            .to_owned();
        if let Some(end) = word.find("..") {
            self.at -= word.len() - end;
            word.truncate(end);
        }
        word
    }

    pub(super) fn quoted(&mut self) -> Result<String, FilterError> {
        let at = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += index + 1;
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, literal)) => text.push(literal),
                    None => break,
                },
                literal => text.push(literal),
            }
        }
        Err(self.problem_at(at, "the quotation that begins here has no end".into()))
    }

    pub(super) fn operator(&mut self) -> Option<&'static str> {
        ["<=", ">=", "!=", "<", ">", "=", "~"]
            .into_iter()
            .find(|operator| self.takes(operator))
    }

    pub(super) fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    /// Whether what stands here ends after `length` bytes.
    pub(super) fn ends_behind(&self, length: usize) -> bool {
        let next = self
            .rest()
            .get(length..)
            .and_then(|rest| rest.chars().next());
        next.is_none_or(|next| next.is_whitespace() || "()".contains(next))
    }

    pub(super) fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    pub(super) fn takes(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Whether the word stands here by itself.
    pub(super) fn sees(&self, word: &str) -> bool {
        self.rest()
            .get(..word.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(word))
            && self.ends_behind(word.len())
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.sees(word);
        if found {
            self.at += word.len();
            self.skip_space();
        }
        found
    }

    pub(super) fn until(&mut self, is_end: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        let length = self.rest().find(is_end).unwrap_or(self.rest().len());
        self.at += length;
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn expected(&self, what: &str) -> FilterError {
        let found = match self.rest().split_whitespace().next() {
            None => "the end".to_owned(),
            Some(word) => format!("`{word}`"),
        };
        self.problem(format!("expected {what}, found {found}"))
    }

    pub(super) fn problem(&self, problem: String) -> FilterError {
        self.problem_at(self.at, problem)
    }

    pub(super) fn problem_at(&self, at: usize, problem: String) -> FilterError {
        let before = self.text.get(..at).unwrap_or(self.text);
        FilterError {
            position: before.chars().count() + 1,
            problem,
        }
    }
}
