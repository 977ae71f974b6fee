//! Sizes that nothing may exceed. Each is a hard limit on the wire; programs may be set lower.

/// Largest body of any message, in bytes. The broker is configured with the same figure.
pub const MESSAGE: usize = 4 * 1024 * 1024;
/// Largest result message, in bytes.
pub const RESULT: usize = 256 * 1024;
/// Largest `output` text of a result, in bytes.
pub const OUTPUT: usize = 64 * 1024;
/// Most metrics in one result.
pub const METRICS: usize = 1_000;
/// Most results in one HTTP submission.
pub const SUBMISSION: usize = 1_000;
/// Most checks in one host's configuration.
pub const CHECKS: usize = 10_000;
/// Largest CEL expression, in bytes.
pub const EXPRESSION: usize = 2_048;
/// Most results in one page of a query.
pub const PAGE: usize = 1_000;
/// Highest sequence number: what every JSON reader holds exactly. A thousand results a second reach it in 285,000 years.
pub const SEQUENCE: u64 = 1 << 53;
/// Most facts, and most labels, of one host.
pub const FACTS: usize = 256;
