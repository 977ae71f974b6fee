//! The constants of the detector, each with the reason for its value. Found on the public part of the Numenta Anomaly
//! Benchmark and of Microsoft's cloud monitoring set, both with the same values; around them the results are flat.

/// Cells for the values seen of one kind. 512 to 4,096 measured alike; 512 take 64 bytes.
pub(crate) const CELLS: usize = 512;
pub(crate) const WORDS: usize = CELLS / 64;

/// So many points make a generation; what was last seen two generations ago is new again. The longest public series
/// (22,700 points) is remembered as a whole, five-minute values for at least 70 days.
pub(crate) const GENERATION: u64 = 20_000;

/// Shorter, for differences to yesterday: what was strange in them once is soon worth a word again.
pub(crate) const DAY_GENERATION: u64 = 3_000;

/// Values become known only after so many points for two kinds of evidence, so that a slow drift cannot make itself
/// known on its way: two hours and eight hours of five-minute values. 6 to 96 measured alike, two better than one.
pub(crate) const DELAY: usize = 24;
pub(crate) const LONG_DELAY: usize = 96;

/// Lowest of so many points, and lowest and mean of so many more: a level that stays away, not a single dip.
pub(crate) const RUN: usize = 6;
pub(crate) const LONG_RUN: usize = 24;

/// Parts of the day for the evidence "not seen at this hour".
pub(crate) const DAY_PARTS: usize = 48;

/// Parts of the day for the difference to yesterday: five minutes each. One that is older than a week is not compared.
pub(crate) const DAY_SLOTS: usize = 288;
pub(crate) const OLDEST_DAY: u8 = 7;

/// What each kind of evidence counts. The mean of what searches over two folds of the files and over all of them
/// came to, rounded: finer steps are not measurable on 53 and 84 labelled windows.
pub(crate) const NEW_VALUE: f64 = 0.5;
pub(crate) const NEW_AT_THIS_HOUR: f64 = 2.3;
pub(crate) const NEW_SIZE: f64 = 1.4;
pub(crate) const NEW_BEYOND_DRIFT: f64 = 1.2;
pub(crate) const NEW_FLOOR: f64 = 1.0;
pub(crate) const NEW_LONG_FLOOR: f64 = 0.8;
pub(crate) const NEW_MEAN: f64 = 0.5;
pub(crate) const NEW_AGAINST_YESTERDAY: f64 = 0.8;

/// Distances count by this power: twice as far is not twice as strange. 0.35 to 0.5 measured alike.
pub(crate) const POWER: f64 = 0.4;

/// Series that always bring something new count less: evidence is divided by 1 + this times its mean.
pub(crate) const USUAL_EVIDENCE: f64 = 0.7;
/// Points over which that mean is taken.
pub(crate) const USUAL_OVER: f64 = 1000.0;

/// Evidence counts half after so many points and so much time. Before a few days are seen nearly everything is new.
/// One to seven days measured alike on five-minute, one-minute and hourly series; a number of points did not.
pub(crate) const YOUNG_POINTS: f64 = 20.0;
pub(crate) const YOUNG_MS: f64 = 4.0 * 86_400_000.0;

/// After strong evidence weaker one is its echo: this share of it is taken away ...
pub(crate) const ECHO: f64 = 0.6;
/// ... fading over so many points, and this share of all points seen, at most of one generation.
pub(crate) const ECHO_POINTS: f64 = 15.0;
pub(crate) const ECHO_SHARE: f64 = 0.05;

/// Larger values count as this one: single precision holds it, and no metric is larger.
pub(crate) const LARGEST: f64 = 1e30;

/// Shares of values between which the usual range lies, for explanations only.
pub(crate) const USUAL_LOW: f64 = 0.05;
pub(crate) const USUAL_HIGH: f64 = 0.95;
