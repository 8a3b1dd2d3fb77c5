//! How the tables of both sides correspond, column by column, and what that means for a cell.

pub mod canon;
pub mod cells;
pub mod form;
pub mod image;
mod key_column;
pub mod load;
mod queries;
mod side;
pub mod table;
