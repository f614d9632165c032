//! Bodies of `/v1/coordinate/…`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tribune_core::coordinate::{self, DIMENSIONS};

pub use crate::agent::Coordinate;

use crate::decode::{DecodeError, DecodeReason, Object, or_default, parse};
use crate::error::ApiError;

/// A node and its place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Entry {
    /// The node.
    pub node: String,
    /// Always empty: a datacenter is one segment.
    pub segment: String,
    /// Its place.
    pub coord: Coordinate,
}

/// The servers of one datacenter and their places.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DatacenterMap {
    /// The datacenter.
    pub datacenter: String,
    /// Places can be compared within one area; there is one, `wan`.
    #[serde(rename = "AreaID")]
    pub area_id: String,
    /// Its servers.
    #[serde(deserialize_with = "or_default")]
    pub coordinates: Vec<Entry>,
}

/// Body of `/v1/coordinate/update`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Update {
    /// The datacenter, or empty for that of the receiver.
    pub datacenter: String,
    /// The node.
    pub node: String,
    /// Its segment.
    pub segment: String,
    /// Its place, if it was given.
    pub coord: Option<Coordinate>,
}

impl Update {
    /// Reads a request body.
    pub fn from_body(body: &[u8]) -> Result<Self, DecodeError> {
        let mut object = Object::new(parse(body)?)?;
        let read = Self {
            datacenter: object.text(&["Datacenter"])?,
            node: object.text(&["Node"])?,
            segment: object.text(&["Segment"])?,
            coord: object.take(&["Coord"])?.map(place).transpose()?,
        };
        object.refuse_enterprise()?;
        object.finish()?;
        Ok(read)
    }
}

fn place(value: Value) -> Result<Coordinate, DecodeError> {
    let refused = |error: serde_json::Error| DecodeError::here(DecodeReason::Malformed(error.to_string()));
    serde_json::from_value(value).map_err(refused)
}

impl From<&coordinate::Coordinate> for Coordinate {
    fn from(place: &coordinate::Coordinate) -> Self {
        Self {
            vec: place.vec.to_vec(),
            error: place.error,
            adjustment: place.adjustment,
            height: place.height,
        }
    }
}

impl TryFrom<&Coordinate> for coordinate::Coordinate {
    type Error = ApiError;

    fn try_from(place: &Coordinate) -> Result<Self, ApiError> {
        let vec: [f64; DIMENSIONS] =
            place.vec.as_slice().try_into().map_err(|_| ApiError::server("incompatible coordinate"))?;
        let (error, adjustment, height) = (place.error, place.adjustment, place.height);
        let place = Self { vec, error, adjustment, height };
        if place.is_valid() { Ok(place) } else { Err(ApiError::bad_request("invalid coordinate")) }
    }
}
