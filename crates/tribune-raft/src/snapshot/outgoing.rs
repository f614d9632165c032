//! A snapshot on its way to another server: read piece by piece from its file, so that sending one costs no memory;
//! written anew from the state where there is no file, or where the file has been damaged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use tribune_core::State;

use super::{Place, file};
use crate::types::SnapshotMeta;

/// Where the pieces come from.
#[derive(Debug)]
pub(crate) enum Outgoing {
    File { file: File, length: u64 },
    Pieces(Vec<Bytes>),
}

impl Outgoing {
    /// From the file, if there is one. Blocks.
    pub(crate) fn open(place: &Place, meta: &SnapshotMeta, state: &State) -> Result<Self, io::Error> {
        let Place::Directory(directory) = place else { return Self::write(meta, state) };
        match File::open(file::path_of(directory, meta)) {
            Ok(file) => Ok(Self::File { length: file.metadata()?.len(), file }),
            Err(_) => Self::write(meta, state),
        }
    }

    /// From the state. Blocks.
    pub(crate) fn write(meta: &SnapshotMeta, state: &State) -> Result<Self, io::Error> {
        file::pieces(meta, state.records()).map(Self::Pieces)
    }

    /// The piece that begins at `offset`, and whether it is the last. Blocks.
    pub(crate) fn piece(&self, offset: u64) -> Result<(Bytes, bool), io::Error> {
        match self {
            Self::File { file, length } => {
                let left = length.checked_sub(offset).filter(|left| *left > 0).ok_or_else(beyond)?;
                let count = left.min(file::PIECE_BYTES as u64);
                let mut bytes = vec![0; count as usize];
                file.read_exact_at(&mut bytes, offset)?;
                Ok((bytes.into(), count == left))
            }
            Self::Pieces(pieces) => {
                let mut begins = 0;
                for (index, piece) in pieces.iter().enumerate() {
                    if begins == offset {
                        return Ok((piece.clone(), index + 1 == pieces.len()));
                    }
                    begins += piece.len() as u64;
                }
                Err(beyond())
            }
        }
    }
}

fn beyond() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver wants what there is not")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outgoing: &Outgoing) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (bytes, last) = outgoing.piece(all.len() as u64).unwrap();
            all.extend_from_slice(&bytes);
            if last {
                return all;
            }
        }
    }

    #[test]
    fn the_file_and_the_state_give_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (meta, state) = (SnapshotMeta::default(), State::default());
        file::write(directory.path(), &meta, &state).unwrap();
        let place = Place::Directory(directory.path().to_owned());
        let from_file = Outgoing::open(&place, &meta, &state).unwrap();
        assert!(matches!(from_file, Outgoing::File { .. }));
        assert_eq!(all(&from_file), all(&Outgoing::write(&meta, &state).unwrap()));
        assert!(from_file.piece(1 << 40).is_err());
    }
}
