//! A terminal that shows the same thing again and again, as it is now.

use std::io;

use console::{Term, measure_text_width};

/// The terminal behind the standard output.
pub(crate) struct Screen {
    term: Term,
    /// Columns and rows when it was last drawn.
    size: Option<(u16, u16)>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            // What is shown goes out at once: nobody sees half of it.
            term: Term::buffered_stdout(),
            size: None,
        }
    }

    /// Whether the terminal has another size than when it was drawn.
    pub(crate) fn is_resized(&self) -> bool {
        let (rows, columns) = self.term.size();
        self.size.is_some_and(|size| size != (columns, rows))
    }

    /// Shows `text` in place of what was shown before, and as much of it as there is room for.
    pub(crate) fn draw(&mut self, text: &str) -> io::Result<()> {
        let (rows, columns) = self.term.size();
        let size = (columns, rows);
        if self.size.replace(size) == Some(size) {
            self.term.move_cursor_to(0, 0)?;
        } else {
            self.term.clear_screen()?;
        }
        // The cursor stays in the line behind the last.
        for line in fitting(text, columns.into(), usize::from(rows).saturating_sub(1)) {
            self.term.clear_line()?;
            self.term.write_line(&line)?;
        }
        self.term.clear_to_end_of_screen()?;
        self.term.flush()
    }
}

/// The lines of `text` for which there is room, folded where they are too wide; the last tells how
/// many there are more.
fn fitting(text: &str, columns: usize, room: usize) -> Vec<String> {
    let lines: Vec<_> = text
        .lines()
        .flat_map(|line| folded(line, columns))
        .collect();
    if lines.len() <= room {
        return lines;
    }
    let shown = room.saturating_sub(1);
    let more = format!("… and {} lines more", lines.len() - shown);
    lines.into_iter().take(shown).chain([more]).collect()
}

fn folded(line: &str, columns: usize) -> Vec<String> {
    if measure_text_width(line) <= columns {
        return vec![line.to_owned()];
    }
    let characters: Vec<_> = line.chars().collect();
    let parts = characters.chunks(columns.max(1));
    parts.map(|part| part.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn what_has_no_room_is_counted() {
        assert_eq!(fitting("a\nb\nc", 9, 3), ["a", "b", "c"]);
        assert_eq!(
            fitting("a\nb\nc\nd", 9, 3),
            ["a", "b", "… and 2 lines more"]
        );
        assert_eq!(fitting("a\nb", 9, 0), ["… and 2 lines more"]);
        assert_eq!(fitting("abcde\nf", 2, 9), ["ab", "cd", "e", "f"]);
        assert_eq!(fitting("", 9, 3), Vec::<String>::new());
    }
}
