//! Which files make up the configuration, in which order, and what they hold.

use std::fs;
use std::path::{Path, PathBuf};

use super::merge::Layers;
use super::syntax::{self, Format};
use super::tree::{Node, Place};

/// Largest configuration file. Ten thousand service definitions fit; something larger is a mistake, such as a
/// log file in a configuration directory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A source named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-config-file`; also taken for a directory, as Consul does.
    Path(PathBuf),
    /// `-hcl`.
    Fragment(String),
}

/// Reads one source into `layers`. `forced` is the format of files whose name does not tell it.
pub(super) fn read(source: &Source, forced: Option<Format>, layers: &mut Layers) {
    match source {
        Source::Path(path) if path.is_dir() => read_folder(path, forced, layers),
        Source::Path(path) => match format_of(path, forced) {
            Some(format) => read_file(path, format, layers),
            None => refuse(
                layers,
                path,
                "the name must end in .hcl or .json; for another name say -config-format=hcl or json",
            ),
        },
        Source::Fragment(text) => add(layers, syntax::parse(text, "-hcl", Format::Hcl)),
    }
}

/// The files of a folder in the order of their names; other files and folders within are passed over.
fn read_folder(folder: &Path, forced: Option<Format>, layers: &mut Layers) {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()
    });
    let mut paths = match listed {
        Ok(paths) => paths,
        Err(error) => return refuse(layers, folder, &format!("cannot be listed: {error}")),
    };
    paths.sort();
    for path in paths.iter().filter(|path| !path.is_dir()) {
        if let Some(format) = format_of(path, forced) {
            read_file(path, format, layers);
        }
    }
}

fn read_file(path: &Path, format: Format, layers: &mut Layers) {
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length > FILE_BYTES_MAX {
        let text = format!("is {length} bytes long; a configuration file has at most {FILE_BYTES_MAX}");
        return refuse(layers, path, &text);
    }
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => add(layers, syntax::parse(&text, &path.display().to_string(), format)),
        Ok(Err(_)) => refuse(layers, path, "is not UTF-8 text; save it in that encoding"),
        Err(error) => refuse(layers, path, &format!("cannot be read: {error}")),
    }
}

fn format_of(path: &Path, forced: Option<Format>) -> Option<Format> {
    match path.extension().and_then(|extension| extension.to_str()) {
        _ if forced.is_some() => forced,
        Some("hcl") => Some(Format::Hcl),
        Some("json") => Some(Format::Json),
        _ => None,
    }
}

fn add(layers: &mut Layers, parsed: Result<Node, syntax::SyntaxError>) {
    match parsed {
        Ok(node) => layers.add(node),
        Err(error) => layers.refuse(error.place, error.message),
    }
}

fn refuse(layers: &mut Layers, path: &Path, text: &str) {
    let place = Place { source: path.display().to_string().into(), line: 0, column: 0 };
    layers.refuse(place, text.to_owned());
}
