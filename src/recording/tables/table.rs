//! One table in one file, in Parquet's format.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use parquet::basic::{Compression, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Rows, or bytes of texts, that are written together.
const ROWS: usize = 50_000;
const BYTES: usize = 16 << 20;

/// What stands in a column of a row.
pub(super) enum Cell {
    Text(Option<String>),
    Whole(Option<i64>),
    Number(Option<f64>),
    Truth(Option<bool>),
}

/// What stands in a column, row by row; all of a kind.
enum Column {
    Text(Vec<ByteArray>),
    Whole(Vec<i64>),
    Number(Vec<f64>),
    Truth(Vec<bool>),
}

/// A file that is being written, under a name of its own until it is whole.
pub(super) struct Table {
    path: PathBuf,
    part: Part,
    writer: SerializedFileWriter<File>,
    columns: Vec<Column>,
    /// For each column and row 1 where something stands there, else 0.
    there: Vec<Vec<i16>>,
    bytes: usize,
    rows: u64,
}

fn failed(error: impl std::fmt::Display) -> std::io::Error {
    std::io::Error::other(error.to_string())
}

/// A file that is gone with this, unless it has got its name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Table {
    /// Begins the file at `path`; its columns are those of `schema`, all optional.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn begin(path: PathBuf, schema: &str) -> std::io::Result<Self> {
        let schema = Arc::new(parse_message_type(schema).map_err(failed)?);
        let column = |field: &Arc<parquet::schema::types::Type>| match field.get_physical_type() {
            Physical::INT64 => Column::Whole(Vec::new()),
            Physical::DOUBLE => Column::Number(Vec::new()),
            Physical::BOOLEAN => Column::Truth(Vec::new()),
            _ => Column::Text(Vec::new()),
        };
        let columns: Vec<Column> = schema.get_fields().iter().map(column).collect();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(failed)?))
            .set_created_by(concat!("prompt-cascade ", env!("CARGO_PKG_VERSION")).to_owned());
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        // Others may write the same tables now.
        let part = Part(path.with_extension(format!("{:016x}.part", fastrand::u64(..))));
        let writer = SerializedFileWriter::new(File::create_new(&part.0)?, schema, Arc::new(properties.build()));
        let there = vec![Vec::new(); columns.len()];
        Ok(Self { path, part, writer: writer.map_err(failed)?, columns, there, bytes: 0, rows: 0 })
    }

    /// Adds a row, a cell for each column.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn add(&mut self, row: impl IntoIterator<Item = Cell>) -> std::io::Result<()> {
        for ((column, there), cell) in self.columns.iter_mut().zip(&mut self.there).zip(row) {
            let is_there = match (column, cell) {
                (Column::Text(all), Cell::Text(Some(text))) => {
                    self.bytes += text.len();
                    all.push(text.into_bytes().into());
                    true
                }
                (Column::Whole(all), Cell::Whole(Some(value))) => {
                    all.push(value);
                    true
                }
                (Column::Number(all), Cell::Number(Some(value))) => {
                    all.push(value);
                    true
                }
                (Column::Truth(all), Cell::Truth(Some(value))) => {
                    all.push(value);
                    true
                }
                _ => false,
            };
            there.push(i16::from(is_there));
        }
        self.rows += 1;
        if self.there.first().is_some_and(|rows| rows.len() >= ROWS) || self.bytes >= BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Writes what was added so far.
    fn write(&mut self) -> std::io::Result<()> {
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for (column, there) in self.columns.iter_mut().zip(&mut self.there) {
            let Some(mut writer) = group.next_column().map_err(failed)? else { break };
            let there = std::mem::take(there);
            let levels = Some(there.as_slice());
            let written = match column {
                Column::Text(all) => writer.typed::<ByteArrayType>().write_batch(&std::mem::take(all), levels, None),
                Column::Whole(all) => writer.typed::<Int64Type>().write_batch(&std::mem::take(all), levels, None),
                Column::Number(all) => writer.typed::<DoubleType>().write_batch(&std::mem::take(all), levels, None),
                Column::Truth(all) => writer.typed::<BoolType>().write_batch(&std::mem::take(all), levels, None),
            };
            written.map_err(failed)?;
            writer.close().map_err(failed)?;
        }
        group.close().map_err(failed)?;
        self.bytes = 0;
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Where that cannot be done.
    pub fn end(&mut self) -> std::io::Result<()> {
        self.write()?;
        self.writer.finish().map_err(failed)?;
        self.writer.inner().sync_all()
    }

    /// Gives a file that has ended its name. Returns its rows.
    ///
    /// # Errors
    /// Where that cannot be done; then it is as if it had never been.
    pub fn keep(self) -> std::io::Result<u64> {
        std::fs::rename(&self.part.0, &self.path)?;
        Ok(self.rows)
    }
}
