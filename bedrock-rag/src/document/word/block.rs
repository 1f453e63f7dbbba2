//! Paragraphs and tables of Word documents, whatever file they come from.

use super::super::compose::{Composer, Fault};

#[derive(Debug, Default)]
pub(super) struct Paragraph {
    pub(super) text: String,
    pub(super) heading: Option<usize>,
    pub(super) is_title: bool,
    /// Its label and a space, and its level from 0.
    pub(super) label: Option<(String, usize)>,
    /// Its end is deleted: the next paragraph goes on in it.
    pub(super) goes_on: bool,
}

impl Paragraph {
    pub(super) fn line(&self) -> String {
        match &self.label {
            Some((label, level)) if !self.text.trim().is_empty() => {
                format!("{}{label}{}", "  ".repeat(*level), self.text.trim_start())
            }
            _ => self.text.clone(),
        }
    }
}

pub(super) enum Block {
    Paragraph(Paragraph),
    Table(Vec<Row>),
}

impl Block {
    pub(super) fn write(&self, composer: &mut Composer) -> Result<(), Fault> {
        let paragraph = match self {
            Self::Table(rows) => return write_table(rows, composer),
            Self::Paragraph(paragraph) => paragraph,
        };
        let text = paragraph.line();
        if paragraph.is_title {
            composer.title(&text);
        }
        match (paragraph.heading, &paragraph.label) {
            (Some(level), _) => composer.heading(level, &text),
            (None, Some((label, _))) if !label.is_empty() => composer.item(&text),
            (None, _) => composer.paragraph(&text),
        }
    }

    /// The block as lines of text.
    pub(super) fn lines(&self) -> Vec<String> {
        match self {
            Self::Paragraph(paragraph) => vec![paragraph.line()],
            Self::Table(rows) => rows
                .iter()
                .map(|row| row.cells.iter().map(|cell| cell.join(" ")).collect::<Vec<_>>().join(" "))
                .collect(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Row {
    /// Each cell's lines.
    pub(super) cells: Vec<Vec<String>>,
    pub(super) head: bool,
}

/// Cells with more than this are columns of running text rather than a table.
const LAYOUT_CELL_LINES: usize = 4;
const LAYOUT_CELL_BYTES: usize = 1500;

/// Writes a table: as rows if it is one, as paragraphs if it only arranges running text.
fn write_table(rows: &[Row], composer: &mut Composer) -> Result<(), Fault> {
    let layout = rows.iter().all(|row| row.cells.len() <= 1)
        || rows.iter().flat_map(|row| &row.cells).any(|cell| {
            cell.len() > LAYOUT_CELL_LINES || cell.iter().map(String::len).sum::<usize>() > LAYOUT_CELL_BYTES
        });
    if layout {
        for line in rows.iter().flat_map(|row| &row.cells).flatten() {
            composer.paragraph(line)?;
        }
        return Ok(());
    }
    composer.open_table();
    for row in rows {
        let cells: Vec<String> = row.cells.iter().map(|cell| cell.join(" ")).collect();
        composer.row(&cells, row.head)?;
    }
    composer.close_table();
    Ok(())
}
