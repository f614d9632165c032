//! Tables of text, as commands and the demo print them.

/// Rows as columns: left-aligned, two blanks between, none at the end of a line. The first row is the header.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let length = |cell: Option<&String>| cell.map_or(0, |text| text.chars().count());
    let widths: Vec<usize> =
        (0..count).map(|column| rows.iter().map(|row| length(row.get(column))).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
        cells.map(str::to_owned).into()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_clean() {
        let rows = [row(["Node", "Address", "Meta"]), row(["alpha", "10.0.0.1", ""]), row(["ä", "", "x=y"])];
        assert_eq!(columns(&rows), "Node   Address   Meta\nalpha  10.0.0.1\nä                x=y\n");
    }
}
