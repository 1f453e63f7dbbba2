//! Excel workbooks, old and new.
//!
//! Both readers are our own. The library that everybody takes (calamine) reserves memory for as many strings and cells
//! as the file says it has, which for a hostile file ends the process rather than the parse, puts an .xls's cells into
//! dense grids, and does not tell the formats of an .xls's numbers.

mod grid;
mod shown;
pub(super) mod xls;
pub(super) mod xlsx;
