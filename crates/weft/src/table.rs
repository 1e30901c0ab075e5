//! Aligned tables.

use crate::output::{Output, Tone};

/// Rows of cells; the widest cell of a column sets its width.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heading: bool,
    right: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without a heading: each row's first cell says what it is.
    pub(crate) fn plain() -> Table {
        Table::default()
    }

    pub(crate) fn new<'a>(heading: impl IntoIterator<Item = &'a str>) -> Table {
        let heading = heading.into_iter().map(str::to_owned).collect();
        Table { heading: true, right: Vec::new(), rows: vec![heading] }
    }

    /// Aligns a column of numbers by its last digit.
    #[must_use]
    pub(crate) fn right(mut self, column: usize) -> Table {
        self.right.push(column);
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text; nothing when there are no rows below the heading.
    pub(crate) fn render(&self, output: Output) -> String {
        if self.rows.len() == usize::from(self.heading) {
            return String::new();
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let mut text = String::new();
        for (at, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let cell = if cell.is_empty() { "-" } else { cell };
                let gap = if column == 0 { "" } else { "  " };
                line += &if self.right.contains(&column) {
                    format!("{gap}{cell:>width$}")
                } else {
                    format!("{gap}{cell:<width$}")
                };
            }
            let line = line.trim_end();
            text += &if at == 0 && self.heading { output.tone(Tone::Heading, line) } else { line.to_owned() };
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let mut table = Table::new(["NAME", "N", "WHAT"]).right(1);
        table.row(["a".into(), "7".into(), "é".into()]);
        table.row(["longer".into(), "1234".into(), String::new()]);
        let expected = "NAME       N  WHAT\na          7  é\nlonger  1234  -\n";
        assert_eq!(table.render(Output::new(false)), expected);
    }

    #[test]
    fn a_heading_without_rows_is_nothing() {
        assert_eq!(Table::new(["NAME"]).render(Output::new(false)), "");
        assert_eq!(Table::plain().render(Output::new(false)), "");
    }
}
