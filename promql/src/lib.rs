//! Questions in PromQL about series of numbers. Pure: samples come through [`Source`], time and limits from the caller.
//!
//! The whole range is evaluated at once: every part of an expression becomes one row of numbers per series, with one
//! place per step. So labels are joined, grouped and compared once per series, not once per step.
//!
//! What this answers is what Prometheus answers ([`Semantics`] says which); where it cannot, it says so by name.

mod aggregate;
mod binary;
mod call;
mod error;
mod eval;
mod instant;
pub mod json;
mod labels;
mod limits;
mod over_time;
mod parse;
mod select;
mod sums;
mod value;

pub use error::Error;
pub use eval::{Query, Semantics, evaluate};
pub use labels::{Labels, NAME};
pub use limits::{Limits, MAX_POINTS, Meter, Stop};
pub use parse::{Expression, Matcher, parse, parse_selector};
pub use select::{Selection, Source, Want};
pub use value::{Answer, Point, STALE, Sample, Series, is_stale};
