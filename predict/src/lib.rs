//! Prediction without I/O and without a clock: what is unusual, what comes next, when a limit is reached, and who is
//! unlike the others. Every answer says why, in numbers and in words. No input makes it panic.

pub mod anomaly;
mod faults;
pub mod forecast;
mod numeric;
pub mod outlier;
mod series;
pub mod time_to;

pub use series::Point;
