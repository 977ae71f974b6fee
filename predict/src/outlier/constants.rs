//! The constants of the comparison, each with the reason for its value. The limits were found on three generated sets
//! of 120 groups and checked on three others: F1 0.95 there.

/// Fewer hosts have no majority that one could be unlike.
pub const LEAST_HOSTS: usize = 4;

/// Fewer values of a host in common with the group: nothing is said of it.
pub const LEAST_VALUES: usize = 24;

/// More hosts or values are cut (hosts) or thinned out (values): the cost is their product.
pub const MAX_HOSTS: usize = 4096;
pub const MAX_VALUES: usize = 2000;

/// What a host is like now is judged by this last share of the time; when it began to be so, by all of it.
pub(crate) const RECENT: f64 = 0.4;

/// Changes over this share of the time show how strongly a host follows the group: long enough to stand out of
/// noise, short enough that a fault in the middle spoils few of them.
pub(crate) const FOLLOW: f64 = 1.0 / 24.0;
/// Hosts of a group follow it by 1, give or take this. Holds the estimate where the group hardly moves.
pub(crate) const FOLLOW_SPREAD: f64 = 0.1;

/// Standard error of a mean over noise with memory, in spreads of its single steps: the noise of machines is
/// correlated over a few samples.
pub(crate) const MEMORY: f64 = 2.2;

/// Places where a lasting change may have begun, in fortieths of the time.
pub(crate) const BEGINNINGS: std::ops::RangeInclusive<usize> = 2..=26;

/// A single value this many spreads above its neighbours is a burst. Below, plain noise is counted as well.
pub(crate) const BURST: f64 = 3.3;
/// One burst is no news; this share of all values is taken as full strength.
pub(crate) const BURST_SHARE: f64 = 0.05;

/// Longest lag looked for, as a share of the time, and the steps on the way there.
pub(crate) const LONGEST_LAG: f64 = 0.36;
pub(crate) const LAG_STEPS: usize = 60;

/// The limit of each kind of difference: reached, the score is 0.5.
pub(crate) const LEVEL: f64 = 5.6;
/// In small groups the spread of levels is known badly: the limit grows by this over the number of hosts.
pub(crate) const LEVEL_FEW: f64 = 1.7;
pub(crate) const CHANGE: f64 = 1.39;
/// Rarely decides, mostly names the way: a leak also changes the level.
pub(crate) const TREND: f64 = 8.0;
pub(crate) const NOISE: f64 = 0.56;
pub(crate) const FLAT: f64 = 0.2;
pub(crate) const LAG: f64 = 0.31;
pub(crate) const BURSTS: f64 = 0.39;

/// Kinds of difference add up as the eighth root of eighth powers: nearly the largest, a little more when two agree.
pub(crate) const TOGETHER: i32 = 8;
/// How steeply the score rises around the limit. Changes no order.
pub(crate) const STEEP: f64 = 3.0;
