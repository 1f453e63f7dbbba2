//! The cells of a sheet as they come, to rows of text.

use super::super::compose::{Composer, Fault};

/// More empty cells in a row than this come out as one: a cell far to the right is no reason for a line of tabs.
const MAX_EMPTY: usize = 64;

pub(super) struct Grid<'c> {
    composer: &'c mut Composer,
    name: String,
    row: Option<u32>,
    /// Column of the last cell.
    column: u32,
    cells: Vec<String>,
    begun: bool,
}

impl<'c> Grid<'c> {
    /// A sheet; its name comes before its first row, and does not if it has none.
    pub(super) fn new(composer: &'c mut Composer, name: &str) -> Self {
        Self { composer, name: name.to_owned(), row: None, column: 0, cells: Vec::new(), begun: false }
    }

    pub(super) fn cell(&mut self, row: u32, column: u32, text: String) -> Result<(), Fault> {
        self.composer.step()?;
        if text.trim().is_empty() {
            return Ok(());
        }
        if self.row != Some(row) {
            self.end_row()?;
            self.row = Some(row);
            self.column = 0;
        }
        let empty = (column.saturating_sub(self.column) as usize).saturating_sub(usize::from(!self.cells.is_empty()));
        for _ in 0..if empty > MAX_EMPTY { 1 } else { empty } {
            self.cells.push(String::new());
        }
        self.column = column;
        self.cells.push(text);
        Ok(())
    }

    fn end_row(&mut self) -> Result<(), Fault> {
        let cells = std::mem::take(&mut self.cells);
        if cells.is_empty() {
            return Ok(());
        }
        if !self.begun {
            self.begun = true;
            self.composer.heading(2, &self.name)?;
            self.composer.open_table();
        }
        self.composer.row(&cells, false)
    }

    pub(super) fn finish(mut self) -> Result<(), Fault> {
        self.end_row()?;
        self.composer.close_table();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::ExtractOptions;

    #[test]
    fn cells_stand_in_their_columns() {
        let mut composer = Composer::new(&ExtractOptions::default());
        let mut grid = Grid::new(&mut composer, "Prices");
        for (row, column, text) in
            [(0, 1, "Item"), (0, 2, "Price"), (4, 0, "x"), (4, 2, "3"), (4, 3, " "), (9, 16_383, "far")]
        {
            grid.cell(row, column, text.to_owned()).unwrap();
        }
        grid.finish().unwrap();
        Grid::new(&mut composer, "Empty").finish().unwrap();
        let document = composer.finish();
        assert_eq!(document.text, "Prices\n\n\tItem\tPrice\nx\t\t3\n\tfar");
        assert_eq!(&document.text[document.tables[0].head.clone()], "\tItem\tPrice");
        assert_eq!(document.headings[0].text, "Prices");
    }
}
