//! The constants of the detector, each with the reason for its value. Found on the public part of the Numenta Anomaly
//! Benchmark and of Microsoft's cloud monitoring set, both with the same values; around them the results are flat.

/// Cells for the values seen of one kind. 512 to 16,384 measured alike; 1,024 take 128 bytes.
pub(crate) const CELLS: usize = 1024;
pub(crate) const WORDS: usize = CELLS / 64;

/// So many points make a generation; what was last seen two generations ago is new again. The longest public series
/// (22,700 points) is to be remembered as a whole; five-minute values for 70 days are.
pub(crate) const GENERATION: u64 = 20_000;

/// Values become known only after so many points for one kind of evidence, so that a slow drift cannot make itself
/// known on its way. 6 to 96 measured alike.
pub(crate) const DELAY: usize = 24;

/// Highest and lowest of so many points: two single spikes between ordinary values are one event, and a dip that
/// stays is more than a dip.
pub(crate) const RUN: usize = 3;

/// Parts of the day for the evidence "not seen at this hour".
pub(crate) const DAY_PARTS: usize = 48;

/// What each kind of evidence counts. Nothing finer than this is measurable on 53 and 84 labelled windows.
pub(crate) const NEW_VALUE: f64 = 1.0;
pub(crate) const NEW_BEYOND_DRIFT: f64 = 1.0;
pub(crate) const NEW_RUN: f64 = 0.7;
pub(crate) const NEW_SIZE: f64 = 0.5;
pub(crate) const NEW_AT_THIS_HOUR: f64 = 0.5;

/// Distances count by this power: twice as far is not twice as strange. 0.35 to 0.5 measured alike.
pub(crate) const POWER: f64 = 0.4;

/// Series that always bring something new count less: evidence is divided by 1 + this times its mean.
pub(crate) const USUAL_EVIDENCE: f64 = 0.5;
/// Points over which that mean is taken.
pub(crate) const USUAL_OVER: f64 = 1000.0;

/// Evidence counts half after so many points and so much time. Before a few days are seen nearly everything is new.
/// One to four days measured alike on five-minute, one-minute and hourly series, no other unit did.
pub(crate) const YOUNG_POINTS: f64 = 20.0;
pub(crate) const YOUNG_MS: f64 = 4.0 * 86_400_000.0;

/// After strong evidence weaker one is its echo: this share of it is taken away ...
pub(crate) const ECHO: f64 = 0.8;
/// ... fading over so many points, and this share of all points seen, at most of one generation.
pub(crate) const ECHO_POINTS: f64 = 20.0;
pub(crate) const ECHO_SHARE: f64 = 0.07;

/// Shares of values between which the usual range lies, for explanations only.
pub(crate) const USUAL_LOW: f64 = 0.05;
pub(crate) const USUAL_HIGH: f64 = 0.95;
